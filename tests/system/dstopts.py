# SPDX-License-Identifier: BSD-3-Clause
"""TCP over IPv6 with a destination-options header of N bytes in every segment.

    dstopts.py serve ADDRESS               takes one connection; prints the bytes and their sum
    dstopts.py send ADDRESS BYTES OPTIONS  sends; prints the seconds until the other end has closed
"""

import socket
import sys
import time

PORT = 5202
IPV6_DSTOPTS = 59


def options(n):
    """Options of an experimental type (RFC 4727), which who does not know them skips: n bytes, a multiple of 8."""
    head, rest = bytes([0, n // 8 - 1]), n - 2
    while rest:
        part = min(rest, 257)
        if rest - part == 1:
            part -= 1
        head += bytes([0x1e, part - 2]) + bytes(part - 2)
        rest -= part
    return head


def serve(address):
    with socket.create_server((address, PORT), family=socket.AF_INET6) as s:
        print("ready", flush=True)
        c = s.accept()[0]
        n = total = 0
        while data := c.recv(1 << 16):
            n += len(data)
            total += sum(data)
        c.close()
        print(n, total)


def send(address, n, opts):
    block = bytes(range(256)) * 256
    t0 = time.monotonic()
    with socket.socket(socket.AF_INET6) as s:
        if opts:
            s.setsockopt(socket.IPPROTO_IPV6, IPV6_DSTOPTS, options(opts))
        s.settimeout(60)
        s.connect((address, PORT))
        for at in range(0, n, len(block)):
            s.sendall(block[:n - at])
        s.shutdown(socket.SHUT_WR)
        s.recv(1)
    print(time.monotonic() - t0)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        send(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
