#!/bin/bash
# Gives the user a name and starts the command, as docker-stacks' start.sh does:
#   any uid with group 0: adds it to /etc/passwd as NB_USER
#   as root: makes NB_USER with NB_UID and NB_GID, changes the home's owner if CHOWN_HOME says so, and becomes that user
set -e

if [ $# -eq 0 ]; then set -- bash; fi

if [ "$(id -u)" -ne 0 ]; then
  if ! whoami >/dev/null 2>&1 && [ -w /etc/passwd ]; then
    name=${NB_USER:-jovyan}
    # The image's own jovyan steps aside, so that nobody finds two users with the same home.
    others=$(sed "s/^jovyan:/nayvoj:/; /^$name:/d" /etc/passwd)
    printf '%s\n%s:x:%s:%s::/home/jovyan:/bin/bash\n' "$others" "$name" "$(id -u)" "$(id -g)" >/etc/passwd
  fi
  copy-skeleton
  exec "$@"
fi

name=${NB_USER:-jovyan}
if [ "$name" != jovyan ] && ! id "$name" >/dev/null 2>&1; then
  usermod --login "$name" --home "/home/$name" jovyan
  [ -e "/home/$name" ] || ln -s /home/jovyan "/home/$name"
fi
groupadd --force --gid "${NB_GID:-100}" --non-unique "${NB_GROUP:-$name}" 2>/dev/null || true
usermod --uid "${NB_UID:-1000}" --gid "${NB_GID:-100}" --groups users "$name" 2>/dev/null || true
case ${CHOWN_HOME:-} in
  1 | yes) chown "${NB_UID:-1000}:${NB_GID:-100}" "/home/$name" ;;
esac
cd "/home/$name"
become=(setpriv --reuid "${NB_UID:-1000}" --regid "${NB_GID:-100}" --init-groups
  env HOME="/home/$name" USER="$name" LOGNAME="$name")
"${become[@]}" copy-skeleton
exec "${become[@]}" "$@"
