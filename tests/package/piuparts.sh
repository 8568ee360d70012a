#!/bin/sh
# Run piuparts on /build/*.deb in a tree that is not booted: install, remove and purge, then
# upgrade from an older version, remove and purge.
#
# piuparts wants a second tree that it may change. A copy of this one takes minutes, so it gets
# an overlay, which schroot makes. It knows of no archive but one that has the older version.
set -eu

mkdir /base /union
mount --bind / /base
mount -t tmpfs union /union
mkdir /union/over /union/under
cat >/etc/schroot/chroot.d/base.conf <<END
[base]
type=directory
directory=/base
profile=minimal
setup.fstab=base.fstab
union-type=overlay
union-overlay-directory=/union/over
union-underlay-directory=/union/under
END
# It lists all files again and again: hide those that no package of ours comes near.
for folder in /usr/include /usr/lib/python3 /usr/share/icons /usr/share/zoneinfo; do
    echo "tmpfs $folder tmpfs defaults 0 0"
done >/etc/schroot/base.fstab
ln -sf true /usr/bin/debsums # as it would miss them
touch /etc/resolv.conf
mkdir -p /var/cache/debconf/tmp.ci # made by APT, where a package has debconf templates

mkdir -p /archive/dists/old/main/binary-all
dpkg-deb --raw-extract /build/*_all.deb /older
sed -i 's/^Version: .*/Version: 0.0.1/' /older/DEBIAN/control
dpkg-deb --root-owner-group --build /older /archive/older.deb
cd /archive
arch=$(dpkg --print-architecture)
ln -s binary-all "dists/old/main/binary-$arch"
dpkg-scanpackages . >dists/old/main/binary-all/Packages
apt-ftparchive -o APT::FTPArchive::Release::Suite=old release dists/old >/Release
mv /Release dists/old/
echo 'Acquire::AllowInsecureRepositories "true";' >/etc/apt/apt.conf.d/99archive

exec piuparts --schroot base --distribution old --mirror "file:/archive main" --arch "$arch" \
    --do-not-verify-signatures --no-eatmydata --no-symlinks --skip-minimize --warn-on-others \
    /build/*_all.deb
