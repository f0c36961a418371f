# SPDX-License-Identifier: BSD-3-Clause
# A network card: $NIC gets $ADDRESS and reaches $PEER; with $IPERF=1 TCP both ways against the peer's iperf3.
say "network $NIC, driver $(basename "$(readlink -f /sys/class/net/$NIC/device/driver)"), $(cat /sys/class/net/$NIC/address)"
ip link set "$NIC" up && ip addr add "$ADDRESS/24" dev "$NIC"
n=0
until ping -c 1 -W 1 "$PEER" >/dev/null 2>&1 || [ $n -ge 20 ]; do n=$((n + 1)); done
ping -c "${PINGS:-10}" -i 0.2 -W 3 "$PEER" >/tmp/ping 2>&1
say "$(grep received /tmp/ping)"
check "${PINGS:-10} pings come back" grep -q "${PINGS:-10} packets received" /tmp/ping
if [ -n "$IPERF" ]; then
	for way in "" -R; do
		iperf3 -c "$PEER" ${IPERF_PORT:+-p $IPERF_PORT} -n 4M $way >/tmp/iperf 2>&1
		say "iperf3 $way: $(grep receiver /tmp/iperf | sed 's/  */ /g')"
		check "iperf3 ${way:-to the peer} moved 4 MiB" grep -q receiver /tmp/iperf
	done
fi
