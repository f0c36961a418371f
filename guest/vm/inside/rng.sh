# SPDX-License-Identifier: BSD-3-Clause
# Random bytes of the VIO server's machine.
R=/sys/class/misc/hw_random
until_there 60 grep -q virtio_rng $R/rng_available
name=$(tr ' ' '\n' <$R/rng_available | grep virtio_rng)
echo "$name" >$R/rng_current
say "of $(cat $R/rng_available): $(cat $R/rng_current)"
one=$(dd if=/dev/hwrng bs=32 count=4 2>/dev/null | md5sum)
two=$(dd if=/dev/hwrng bs=32 count=4 2>/dev/null | md5sum)
check "random bytes come, and never the same" [ "$one" != "$two" ]
check "and they are virtio's" [ "$(cat $R/rng_current)" = "$name" ]
