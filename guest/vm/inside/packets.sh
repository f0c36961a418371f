# SPDX-License-Identifier: BSD-3-Clause
# Packets one at a time and in a stream, both ways, on $NIC; the host counts between the marks.
packets() { echo $(($(cat /sys/class/net/$NIC/statistics/tx_packets) + $(cat /sys/class/net/$NIC/statistics/rx_packets))); }
until_there 20 [ -d /sys/class/net/$NIC ] || echo "@@bad no $NIC"
ip link set "$NIC" up && ip addr add "$ADDRESS/24" dev "$NIC"
until_there 20 ping -c 1 -W 1 "$PEER" >/dev/null 2>&1
say "driver $(basename "$(readlink -f /sys/class/net/$NIC/device/driver)")"
load() {
	before=$(packets)
	echo "@@case $1"
	ask mark begin
	shift
	"$@" >/tmp/load 2>&1 || { echo "@@bad $*"; tail -3 /tmp/load; }
	ask mark end
	echo "@@packets $(($(packets) - before))"
}
load ping ping -c 100 -i 0.02 -W 5 "$PEER"
load send iperf3 -c "$PEER" -p "$IPERF_PORT" -n 4M
load receive iperf3 -c "$PEER" -p "$IPERF_PORT" -n 4M -R
