#!/usr/bin/env bash
# Makes what one machine needs to keep to itself, once: a certificate authority, the broker's certificate, a password for
# each role, keys for the S3 gateway. Nothing is overwritten; delete a file to have it made anew. The folder is ignored by
# git and by image builds.
#
#   deploy/secrets.sh [FOLDER] [NAME...]      NAME: further names and addresses that the broker is reached by
set -euo pipefail
folder=${1:-$(dirname "$0")/secrets}
shift || true
umask 077
mkdir -p "$folder/tls"
cd "$folder"

# Letters and digits, the first a letter: nats-server reads passwords as values of its configuration, and they stand in URLs.
password() { printf 'k%s' "$(openssl rand -hex 16)"; }

if [ ! -e tls/ca.crt ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj "/CN=fulltime authority" \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign" \
    -keyout tls/ca.key -out tls/ca.crt 2>/dev/null
fi
if [ ! -e tls/tls.crt ]; then
  names="DNS:nats,DNS:localhost,IP:127.0.0.1"
  for name in "$@"; do
    case $name in
      *[!0-9.]*) names="$names,DNS:$name" ;;
      *) names="$names,IP:$name" ;;
    esac
  done
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=nats" -keyout tls/tls.key \
    -out tls/tls.csr 2>/dev/null
  printf 'subjectAltName=%s\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\n' "$names" > tls/tls.ext
  openssl x509 -req -in tls/tls.csr -CA tls/ca.crt -CAkey tls/ca.key -CAcreateserial -days 825 -extfile tls/tls.ext \
    -out tls/tls.crt 2>/dev/null
  rm -f tls/tls.csr tls/tls.ext tls/ca.srl
  # The containers read them with users of their own; the authority's key stays with its maker.
  chmod 755 tls
  chmod 644 tls/ca.crt tls/tls.crt tls/tls.key
fi
if [ ! -e nats.env ]; then
  for role in VIEWER SUBMITTER OPERATOR WORKER COORDINATOR; do
    printf 'FULLTIME_NATS_%s=%s\n' "$role" "$(password)"
  done > nats.env
fi
if [ ! -e s3.env ]; then
  for who in WRITER READER; do
    printf 'S3_%s_KEY=%s\nS3_%s_SECRET=%s\n' "$who" "$(password)" "$who" "$(password)"
  done > s3.env
fi
[ -e grafana.env ] || printf 'GF_SECURITY_ADMIN_PASSWORD=%s\n' "$(password)" > grafana.env
# Asked for by the dashboard: everything but metrics and probes.
[ -e http.token ] || printf '%s\n' "$(password)" > http.token
chmod 644 http.token

# The rest follows from these.
. ./nats.env
. ./s3.env
role() { # NAME PASSWORD: what a process of this role has in its environment
  printf 'FULLTIME_NATS=tls://%s:%s@nats:4222\n' "$1" "$2"
  printf 'AWS_ACCESS_KEY_ID=%s\nAWS_SECRET_ACCESS_KEY=%s\n' "$S3_WRITER_KEY" "$S3_WRITER_SECRET"
}
role coordinator "$FULLTIME_NATS_COORDINATOR" > coordinator.env
role worker "$FULLTIME_NATS_WORKER" > worker.env
role operator "$FULLTIME_NATS_OPERATOR" > operator.env
cat > s3.json <<JSON
{"identities": [
  {"name": "writer", "credentials": [{"accessKey": "$S3_WRITER_KEY", "secretKey": "$S3_WRITER_SECRET"}],
   "actions": ["Read:fulltime", "Write:fulltime", "List:fulltime", "Tagging:fulltime"]},
  {"name": "reader", "credentials": [{"accessKey": "$S3_READER_KEY", "secretKey": "$S3_READER_SECRET"}],
   "actions": ["Read:fulltime", "List:fulltime"]}
]}
JSON
chmod 644 s3.json
