# SPDX-License-Identifier: BSD-3-Clause
# A shared folder, mount tag $SHARE, with a file `hello` of the host: read and written in both directions, 1,000 files.
mkdir -p /share
check "9p mount" mount -t 9p -o trans=virtio,version=9p2000.L,msize=65536 "$SHARE" /share
check "the host's file is read" [ "$(cat /share/hello)" = "from the host" ]
echo "from the guest" >/share/reply
mkdir /share/many
i=0
while [ $i -lt 1000 ]; do echo $i >/share/many/$i || echo "@@bad writing many/$i"; i=$((i + 1)); done
check "the host sees the guest's file and 1000 more" ask share
check "9p unmount" umount /share
