# SPDX-License-Identifier: BSD-3-Clause
# A shared folder, mount tag $SHARE, which its server knows as $ANAME: files of the host's read, files of the guest's written, $SHARED of them.
mkdir -p /share
check "the shared folder is there" until_there 60 sh -c 'ls /sys/bus/virtio/drivers/9pnet_virtio | grep -q virtio'
check "9p mount" mount -t 9p -o "trans=virtio,version=9p2000.L,msize=65536,aname=$ANAME" "$SHARE" /share
[ -f /share/megabyte ] || dmesg | tail -5
check "a megabyte of the host's has its checksum" ask share has megabyte "$(md5sum </share/megabyte | cut -d' ' -f1)"
dd if=/share/megabyte of=/share/back bs=64k 2>/dev/null || echo "@@bad writing back"
n=${SHARED:-1000}
mkdir /share/of-the-guest
i=0
while [ $i -lt "$n" ]; do echo $i >/share/of-the-guest/$i || echo "@@bad writing of-the-guest/$i"; i=$((i + 1)); done
say "$n files and a megabyte written, $(ls /share/of-the-host | wc -l) files of the host's read"
sum=$(cd /share/of-the-host && ls | sort -n | xargs cat | md5sum | cut -d' ' -f1)
check "the host's files are what they are there" ask share has files "$sum"
check "the host sees all of the guest's" ask share written "$n"
check "9p unmount" umount /share
