# SPDX-License-Identifier: BSD-3-Clause
# Our modules out and in again, six times: no TCE stays mapped and no grant stands, and the devices work after the last, though
# the VIO server restarts in every other one.
ip link set "$NIC" down 2>/dev/null
i=0
while [ $i -lt "${CYCLES:-6}" ]; do
	rmmod virtio_vio && rmmod vio_hv || { echo "@@bad rmmod in cycle $i"; break; }
	ask no-tces || { echo "@@bad after cycle $i: $answer"; break; }
	load vio_hv.ko && load virtio_vio.ko "arm=$ARM"
	[ $((i % 2)) -eq 0 ] || ask restart-vios # while the drivers probe
	until_there 20 [ -b "$DISK" ] || { echo "@@bad no disk after cycle $i"; break; }
	i=$((i + 1))
done
say "$i cycles of rmmod and insmod, no TCE left after any"
check "${CYCLES:-6} unload and load cycles" [ $i -eq "${CYCLES:-6}" ]
check "the disk is read after them" dd if="$DISK" of=/dev/null bs=64k count=16
