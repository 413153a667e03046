#!/bin/bash
# A mount that an automounter asks for (x-systemd.automount in fstab): whoever makes it may not touch the
# directory in a way that would ask once more.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib/tap.sh"
need root fuse python3 setpriv
. "$here/../lib/mount.sh"

site_up

# The automounter: a direct autofs on the directory, and the daemon in another process group, as systemd
# starts it.  Prints what was asked of it.
cat >"$SITE/automounter" <<'EOT'
import ctypes, os, select, subprocess, sys, time
libc = ctypes.CDLL(None, use_errno=True)
os.setpgid(0, 0)
r, w = os.pipe()
options = "fd=%d,pgrp=%d,minproto=5,maxproto=5,direct" % (w, os.getpgrp())
if libc.mount(b"automounter", sys.argv[1].encode(), b"autofs", 0, options.encode()) != 0:
    print("no autofs: " + os.strerror(ctypes.get_errno()))
    sys.exit(2)
os.close(w)
daemon = subprocess.Popen(sys.argv[2:], start_new_session=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL)
asked = False
while daemon.poll() is None and not asked:
    asked = bool(select.select([r], [], [], 0.1)[0])
# One that asks waits until it is killed.
print("asked" if asked else "mounted" if daemon.wait() == 0 else "failed")
EOT
said=$(python3 "$SITE/automounter" "$MNT" "$VMIMAGEFS_BUILD/vmimagefs" -o "config=$CONF" 2>"$LOG")
at_exit umount -i -c -l "$MNT"
if [ "${said#no autofs}" != "$said" ]; then
	skip 'a start through an automount does not wait for itself' "$said"
else
	check_is 'a start through an automount does not wait for itself' mounted "$said"
	[ "$said" != mounted ] || check 'and lists can be seen' test -d "$MNT/images"
	daemon_kill
fi
plan_done
