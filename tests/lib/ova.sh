# A small OVA, a member of which stays open while other things happen.  After images.sh.
#
#   ova_add NAME       an image that is an archive: vm.ovf and disk.vmdk, the bytes of $SITE/disk.vmdk
#   ova_member NAME    prints the path of disk.vmdk in the mount
#   ova_reads_on FD    the member that is open there is read from the worker, not from the kernel's
#                      memory, and right
#   ova_seeks_on FD    all of it is data

ova_add() {
	image_add "$1" ok 1
	printf '<Envelope/>\n' >"$SITE/vm.ovf"
	head -c 3000000 /dev/urandom >"$SITE/disk.vmdk"
	tar -C "$SITE" --format=ustar -cf "$WWW/$1" vm.ovf disk.vmdk || bail "no archive '$1'"
	image_keys[$1]=hv:format=ova
}

ova_member() {
	echo "$MNT/images/$1/ova/disk.vmdk"
}

ova_reads_on() {
	python3 - "$1" "$SITE/disk.vmdk" <<-'EOT'
		import os, sys
		fd = int(sys.argv[1])
		os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
		with open(sys.argv[2], 'rb') as f:
		    whole = f.read()
		for off in (2900000, 0, 1000000):
		    if os.pread(fd, 65536, off) != whole[off:off + 65536]:
		        sys.exit('wrong bytes at %d' % off)
	EOT
}

ova_seeks_on() {
	python3 - "$1" <<-'EOT'
		import os, sys
		fd = int(sys.argv[1])
		found = os.lseek(fd, 0, os.SEEK_HOLE), os.lseek(fd, 5, os.SEEK_DATA)
		os.lseek(fd, 0, os.SEEK_SET)
		if found != (3000000, 5):
		    sys.exit('%d %d' % found)
	EOT
}
