# SPDX-License-Identifier: BSD-3-Clause
# Loads on $DISK whose requests the host counts, $CASES: name:options of vio-load; first one that checks every byte.
until_there 20 [ -b "$DISK" ] || { echo "@@bad no $DISK"; dmesg | tail -20; }
interrupts() { sed -n "/$IRQS/p" /proc/interrupts | awk '{ for (i = 2; i <= NF && $i ~ /^[0-9]+$/; i++) n += $i } END { print n + 0 }'; }
check "every byte written, read and checked" vio-load --device "$DISK" --rw randread --count 300 --span 4M --depth 4
for c in $CASES; do
	options=$(echo "${c#*:}" | tr , ' ')
	before=$(interrupts)
	echo "@@case ${c%%:*}"
	vio-load --device "$DISK" --touch none --ask $options || echo "@@bad vio-load $options"
	echo "@@interrupts $(($(interrupts) - before))"
done
