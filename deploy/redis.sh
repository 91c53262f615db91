#!/bin/sh
# Starts Redis with one user, kvasir, whose password stands in a file; the arguments are Redis's own.
# The user may read and write keys, and nothing that is dangerous to others or to the server.
set -eu
umask 077
secret=${REDIS_PASSWORD_FILE:-/run/secrets/redis_password}
acl=${REDIS_ACL_FILE:-/tmp/users.acl}
password=$(cat "$secret")
[ "${#password}" -ge 16 ] || { echo "the password in $secret has fewer than 16 characters; write: openssl rand -hex 32" >&2; exit 1; }
digest=$(printf %s "$password" | sha256sum | cut -d ' ' -f 1)
printf 'user default off\nuser kvasir on #%s ~* -@all +@read +@write +@connection -@dangerous\n' "$digest" >"$acl"
exec "${REDIS_SERVER:-redis-server}" --aclfile "$acl" "$@"
