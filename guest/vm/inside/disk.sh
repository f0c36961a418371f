# SPDX-License-Identifier: BSD-3-Clause
# A disk with ext4 and its journal: made, filled, read back from the disk, left clean. $DISK, $FILES, $FILE_KIB.
check "the disk is there" until_there 20 [ -b "$DISK" ]
[ -b "$DISK" ] || { dmesg | tail -20; echo "@@end"; poweroff -f; }
say "disk $DISK of $(($(cat /sys/block/${DISK##*/}/size) / 2048)) MiB, driver $(basename "$(readlink -f /sys/block/${DISK##*/}/device/driver)")"
check "mkfs.ext4 with a journal" mke2fs.real -q -F -t ext4 -O has_journal "$DISK"
check "mount" mount -t ext4 "$DISK" /mnt
i=0
while [ $i -lt "${FILES:-20}" ]; do
	dd if=/dev/urandom of=/mnt/f$i bs=1k count="${FILE_KIB:-64}" 2>/dev/null || echo "@@bad writing f$i"
	i=$((i + 1))
done
(cd /mnt && md5sum f*) >/tmp/before
sync
echo 3 >/proc/sys/vm/drop_caches
(cd /mnt && md5sum f*) >/tmp/after
say "$(wc -l </tmp/before) files of ${FILE_KIB:-64} KiB written, caches dropped, read again"
check "checksums after the caches were dropped" cmp -s /tmp/before /tmp/after
check "as many checksums as files" [ "$(wc -l </tmp/after)" -eq "${FILES:-20}" ]
check "unmount" umount /mnt
check "the host's e2fsck finds the disk clean, with a journal" ask fsck
