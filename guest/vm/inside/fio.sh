# SPDX-License-Identifier: BSD-3-Clause
# fio with verify on the raw disk $DISK.
fio --name=verify --filename="$DISK" --rw=randwrite --bs=4k-64k --size="${FIO_SIZE:-8m}" --ioengine=libaio --iodepth=8 --direct=1 \
	--verify=crc32c --do_verify=1 --verify_fatal=1 --thread >/tmp/fio 2>&1
rc=$?
say "fio: $(grep -E '^ *(read|write|WRITE|READ):' /tmp/fio | head -2 | sed 's/  */ /g' | tr '\n' ';')"
check "fio writes at random and verifies every block" [ $rc -eq 0 ]
[ $rc -eq 0 ] || tail -5 /tmp/fio
