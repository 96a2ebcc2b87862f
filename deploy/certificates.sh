#!/bin/sh
# Make, once, an authority and a certificate for the Qdrant nodes: the API key travels over https only, so it needs one.
# Usage: certificates.sh FOLDER NAME... Bring your own instead as ca.pem, cert.pem and key.pem in the folder.
set -eu
umask 077
cd "$1"
shift
if [ -s cert.pem ]; then exit 0; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
curve='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
# Qdrant's own client (rustls) takes no authority for a server, and no certificate without names: so there are two.
openssl req -x509 $curve -days 3650 -subj /CN=radsearch -keyout "$work/ca.key" -out "$work/ca.pem"
openssl req -new $curve -subj /CN=qdrant -keyout "$work/key.pem" -out "$work/request.pem"
printf 'basicConstraints=critical,CA:FALSE\nsubjectAltName=IP:127.0.0.1' > "$work/extensions"
for name in "$@"; do printf ',DNS:%s' "$name" >> "$work/extensions"; done
openssl x509 -req -in "$work/request.pem" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial -days 3650 \
  -extfile "$work/extensions" -out "$work/cert.pem"
chmod 644 "$work/ca.pem" "$work/cert.pem"
mv "$work/ca.pem" "$work/key.pem" .
mv "$work/cert.pem" . # last: it says that all are there; the authority's key is thrown away
