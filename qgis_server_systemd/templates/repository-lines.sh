curl -fsSLo /etc/apt/keyrings/{{ settings.name }}.asc {{ settings.url }}/{{ settings.name }}.asc
curl -fsSLo /etc/apt/sources.list.d/{{ settings.name }}.sources "{{ settings.url }}/{{ settings.name }}-$(. /etc/os-release; echo $VERSION_CODENAME).sources"
apt update
