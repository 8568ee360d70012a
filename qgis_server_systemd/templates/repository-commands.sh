{% for suite in suites %}
# ---- {{ suite }}
# aptly: the first three once, the last one after each upload.
aptly repo create -distribution={{ suite }} -component=main {{ settings.name }}-{{ suite }}
{% for file in files[suite] %}
aptly repo {{ "include -accept-unsigned -no-remove-files -repo=" if file.endswith(".changes") else "add " }}{{ settings.name }}-{{ suite }} {{ file }}
{% endfor %}
aptly publish repo -acquire-by-hash -architectures={{ architectures | join(",") }},source -origin={{ settings.origin | shell }} -label={{ settings.label | shell }} -gpg-key={{ keys[0] }} {{ settings.name }}-{{ suite }}
aptly publish update -gpg-key={{ keys[0] }} {{ suite }}

# reprepro: the first one once.
mkdir -p {{ repo }}/conf && cat >>{{ repo }}/conf/distributions <<'END'

Codename: {{ suite }}
Suite: {{ suite }}
Components: main
Architectures: {{ architectures | join(" ") }} source
Origin: {{ settings.origin }}
Label: {{ settings.label }}
SignWith: {{ keys | join(" ") }}
END
{% for file in files[suite] %}
reprepro --basedir {{ repo }} --ignore=wrongdistribution {{ "include" if file.endswith(".changes") else "includedeb" if file.endswith(".deb") else "includedsc" }} {{ suite }} {{ file }}
{% endfor %}

# Pulp: the first and the last one once. Its repository serves as the distribution "pulp", component "upload".
pulp deb repository create --name {{ settings.name }}-{{ suite }}
{% for file in debs[suite] %}
pulp deb content upload --repository {{ settings.name }}-{{ suite }} --file {{ file }}
{% endfor %}
pulp deb publication create --repository {{ settings.name }}-{{ suite }}
pulp deb distribution create --name {{ settings.name }}-{{ suite }} --base-path {{ settings.name }}-{{ suite }} --repository {{ settings.name }}-{{ suite }}

{% endfor %}
