# SPDX-License-Identifier: BSD-3-Clause
"""UDP in large pieces that somebody is to cut into datagrams (UDP_SEGMENT).

    udp_gso.py serve ADDRESS           prints how many different datagrams came, when "end" has come or nothing for 5 s
    udp_gso.py send ADDRESS N SIZE     N datagrams of SIZE bytes, 40 at a time, numbered; then "end"
"""

import ipaddress
import socket
import sys
import time

PORT = 5203
UDP_SEGMENT = 103


def sock(address):
    return socket.socket(socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET, socket.SOCK_DGRAM)


def body(i, size):
    return i.to_bytes(4, "big") * (size // 4)


def serve(address):
    seen = set()
    with sock(address) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        s.bind((address, PORT))
        s.settimeout(5)
        print("ready", flush=True)
        try:
            while (data := s.recv(1 << 16)) != b"end":
                i = int.from_bytes(data[:4], "big")
                if data == body(i, len(data)):
                    seen.add((i, len(data)))
        except TimeoutError:
            pass
    print(len(seen), len({n for _, n in seen}))


def send(address, n, size):
    with sock(address) as s:
        s.connect((address, PORT))
        s.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size)
        for i in range(0, n, 40):
            s.send(b"".join(body(k, size) for k in range(i, min(i + 40, n))))
            time.sleep(0.01)
        s.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 0)
        for _ in range(3):
            time.sleep(0.2)
            try:
                s.send(b"end")
            except ConnectionRefusedError:
                return  # it has heard the one before


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        send(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
