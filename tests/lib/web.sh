# web.sh - a real web server, nginx, on the loopback interface.
#
# A bash library: source it after tap.sh.
#
#   web_up DIR CERT KEY       serves DIR over TLS; sets WEB_PORT and WEB_URL
#                             (https://localhost:PORT)
#   web_up DIR                the same without TLS (http://localhost:PORT)
#   web_down                  stops the one started last
#   web_again                 starts it again, at the same port
#   web_requests PATTERN      prints how many requests match the extended regular expression.  A
#                             request is "METHOD URI STATUS BYTES RANGE"; RANGE is "-" without one
#
# WEB_SERVER_CONF, if it is set, goes into the server's configuration: "location /x { ... }".
# DIR must be readable by everybody: nginx gives up root.

# Below the range the kernel takes ports of outgoing connections from.
web_free_port() {
	local port

	for _ in {1..50}; do
		port=$((20000 + RANDOM % 12000))
		if ! { : <>"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null; then
			echo "$port"
			return 0
		fi
	done
	return 1
}

web_write_conf() {
	local root=$1 port=$2 cert=$3 key=$4 listen=$2

	[ -z "$cert" ] || listen="$port ssl"
	cat <<-EOT2
		daemon off;
		worker_processes 1;
		pid $WEB_DIR/pid;
		error_log $WEB_DIR/error.log;
		events { }
		http {
			log_format plain '\$request_method \$uri \$status \$body_bytes_sent \$http_range';
			sendfile on;
			access_log $WEB_DIR/access.log plain;
			client_body_temp_path $WEB_DIR/body;
			proxy_temp_path $WEB_DIR/proxy;
			fastcgi_temp_path $WEB_DIR/fastcgi;
			uwsgi_temp_path $WEB_DIR/uwsgi;
			scgi_temp_path $WEB_DIR/scgi;
			server {
				listen 127.0.0.1:$listen;
				root $root;
				${WEB_SERVER_CONF:-}
	EOT2
	[ -z "$cert" ] || printf '\t\tssl_certificate %s;\n\t\tssl_certificate_key %s;\n' "$cert" "$key"
	printf '\t}\n}\n'
}

web_answers() {
	{ : <>"/dev/tcp/127.0.0.1/$WEB_PORT"; } 2>/dev/null
}

web_again() {
	nginx -e "$WEB_DIR/error.log" -c "$WEB_DIR/conf" </dev/null >"$WEB_DIR/said" 2>&1 &
	WEB_PID=$!
	at_exit web_stop "$WEB_PID"
	wait_for 10 web_answers && kill -0 "$WEB_PID" 2>/dev/null
}

web_up() {
	local root=$1 cert=${2:-} key=${3:-}

	WEB_DIR=$(mktemp -d "${TMPDIR:-/tmp}/vmimagefs-web.XXXXXX") || bail 'mktemp failed'
	at_exit rm -rf "$WEB_DIR"
	chmod 755 "$WEB_DIR"
	for _ in 1 2 3; do
		WEB_PORT=$(web_free_port) || bail 'no free port'
		web_write_conf "$root" "$WEB_PORT" "$cert" "$key" >"$WEB_DIR/conf"
		web_again && break
		web_down
		WEB_PID=
	done
	[ -n "$WEB_PID" ] || bail "nginx does not start: $(tail -n 3 "$WEB_DIR/error.log")"
	WEB_URL=http${cert:+s}://localhost:$WEB_PORT
}

# Our own child until it has been waited for: the number cannot be another process meanwhile.
web_stop() {
	kill "$1" 2>/dev/null && wait "$1" 2>/dev/null
	return 0
}

web_down() {
	web_stop "$WEB_PID"
}

# nginx writes the line when the answer is out, which the client may see a little earlier.
web_requests() {
	grep -cE "$1" "$WEB_DIR/access.log"
}
