# SPDX-License-Identifier: BSD-3-Clause
# The VIO server is killed and started again under a mounted file system: writes wait, and nothing is lost.
mke2fs.real -q -F -t ext4 "$DISK" && mount -t ext4 "$DISK" /mnt
(i=0; while [ $i -lt "${WRITES:-40}" ]; do dd if=/dev/urandom of=/mnt/r$i bs=64k count=1 conv=fsync 2>/dev/null || echo "@@bad write $i failed"
	md5sum /mnt/r$i >>/tmp/r; i=$((i + 1)); done; touch /tmp/r.done) &
until_there 30 [ -s /tmp/r ]
check "the VIO server is killed and comes back" ask restart-vios
check "the writes went on" until_there 60 [ -f /tmp/r.done ]
sync
echo 3 >/proc/sys/vm/drop_caches
check "all ${WRITES:-40} files are what was written" md5sum -s -c /tmp/r
check "unmount after the restart" umount /mnt
check "the host finds it clean" ask fsck
