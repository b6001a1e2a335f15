#!/usr/bin/env bash
# Makes a server of Debian 12 or newer, or Ubuntu 22.04 or newer, into a running Data-Science Launchpad behind TLS.
# Run again, it brings everything to the state of this clone and keeps settings, data and running instances; another
# version is an upgrade, which is taken back when it does not become healthy.
set -euo pipefail
umask 022 # what the portal's user and nginx read is root's; what nobody may read says so itself
cd "$(dirname "$(readlink -f "$0")")"
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

usage() {
  cat <<'TEXT'
sudo ./install.sh [options]

It asks at most five questions. Each has an option; with --unattended nothing is asked.

  --url URL               address of the portal, such as https://lab.example.org
  --instances-url URL     address of the instances, such as https://run.lab.example.org (default: run.<the portal's
                          name>), or a name for each: https://{instance}.lab.example.org
  --admin ADDRESS         e-mail address of the first administrator (several: separated by commas)
  --tls WAY               self-signed (for a trial), acme (Let's Encrypt, through certbot), files, or outer (another proxy
                          in front of this server terminates TLS; name it in --settings: docs/howto/reverse-proxy.md)
    --certificate FILE      with files: the chain, PEM
    --key FILE              with files: the private key, PEM
    --acme-email ADDRESS    with acme: contact for the authority (default: the first administrator)
  --mail HOST             mail server, or "none": codes are then written to a folder
    --mail-port N           default 587
    --mail-security WAY     starttls (default), tls, none
    --mail-username NAME    user name at the mail server
    --mail-password-file FILE  file with its password
    --mail-from ADDRESS     sender of every mail

  --domains LIST          domains whose addresses may sign in, separated by commas (default: any)
  --images WAY            pull (default), build, or none: how to get the environments' images
  --settings FILE         more settings, TOML, appended to the new settings file
  --wheelhouse FOLDER     install Python packages from this folder, for servers without internet access
  --test-mail ADDRESS     at the end, send a test mail to this address
  --unattended            ask nothing; use defaults for missing options, or stop if there is no default
  --dry-run               show what would be done, and do nothing
  --uninstall             remove the platform from this server; settings, database and home folders are kept
  --yes                   with --uninstall: do not ask
TEXT
}

etc=/etc/launchpad state=/var/lib/launchpad helper_state=/var/lib/launchpad-helper opt=/opt/launchpad
user=launchpad site=/etc/nginx/sites-available/launchpad
mark=$opt/.upgrade-from # while another version is put into force: the one before
timers=(launchpad-sweep.timer launchpad-backup.timer launchpad-drill.timer)
started=(launchpad-helper.socket launchpad.socket launchpad-helper.service launchpad.service "${timers[@]}")

url='' instances_url='' admin='' tls='' certificate='' key='' acme_email='' domains='' images=pull more='' wheelhouse=''
mail='' mail_port=587 mail_security=starttls mail_username='' mail_password_file='' mail_from='' test_mail=''
unattended='' dry_run='' uninstall='' yes=''
broken_off='' unfinished=''
arguments=("$@")
while [ $# -gt 0 ]; do
  option=$1
  case $option in
    --unattended | --dry-run | --uninstall | --yes)
      printf -v "$(tr - _ <<<"${option#--}")" 1
      shift
      continue
      ;;
    -h | --help) usage && exit ;;
    --url | --instances-url | --admin | --tls | --certificate | --key | --acme-email | --mail | --mail-port | \
      --mail-security | --mail-username | --mail-password-file | --mail-from | --domains | --images | --wheelhouse | \
      --test-mail) ;;
    --settings) option=--more ;;
    *) die "There is no option $option; see ./install.sh --help." ;;
  esac
  [ $# -ge 2 ] || die "$1 needs a value; see ./install.sh --help."
  printf -v "$(tr - _ <<<"${option#--}")" '%s' "$2"
  shift 2
done

did=()
left=()

# step TEXT COMMAND…: says what is done, and does it unless this is a dry run.
step() {
  local text=$1
  shift
  if [ -n "$dry_run" ]; then
    say "would: $text"
    return
  fi
  say "$text"
  "$@"
  did+=("$text")
}

# ask VARIABLE QUESTION DEFAULT OPTION: sets the variable, unless its option has.
ask() {
  local -n answer=$1
  [ -z "$answer" ] || return 0
  if [ -n "$unattended" ] || [ ! -t 0 ]; then
    answer=$3
  else
    read -r -p "$2${3:+ [$3]}: " answer
    answer=${answer:-$3}
  fi
  [ -n "$answer" ] || die "$4 is needed."
}

fits() { [[ $2 =~ $3 ]] || die "$1: \"$2\" is not valid; $4"; }

# -- before anything is done ---------------------------------------------------------------------------------------------

check_system() {
  local ID='' VERSION_ID=''
  [ ! -r /etc/os-release ] || . /etc/os-release
  case "$ID" in
    debian) [ "${VERSION_ID%%.*}" -ge 12 ] || die "Debian 12 or newer is needed; this is $VERSION_ID." ;;
    ubuntu) [ "${VERSION_ID%%.*}" -ge 22 ] || die "Ubuntu 22.04 or newer is needed; this is $VERSION_ID." ;;
    *) die "This installer supports Debian and Ubuntu; this is \"${ID:-something else}\"." ;;
  esac
  [ -d /run/systemd/system ] || die "systemd is not running here; for a trial without it, use ./quickstart."
}

questions() {
  local host
  ask url "Address of the portal (https://…)" "" "--url"
  fits --url "$url" '^https://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]+)?$' "write it like https://lab.example.org."
  host=${url#https://}
  ask instances_url "Address of the instances (another name that resolves to this server)" "https://run.$host" \
    "--instances-url"
  fits --instances-url "$instances_url" '^https://(\{instance\}\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]+)?$' \
    "write it like https://run.lab.example.org or https://{instance}.lab.example.org."
  ask admin "E-mail address of the first administrator" "" "--admin"
  fits --admin "$admin" '^[^@,"\\[:space:]]+@[^@,"\\[:space:]]+(,[^@,"\\[:space:]]+@[^@,"\\[:space:]]+)*$' "write it like you@example.org."
  [ -z "$certificate" ] || tls=${tls:-files}
  ask tls "Certificate: self-signed (trial), acme (Let's Encrypt) or files (--certificate, --key)" self-signed "--tls"
  fits --tls "$tls" '^(self-signed|acme|files|outer)$' "choose self-signed, acme, files or outer."
  if [ "$tls" = files ]; then
    if [ ! -r "$certificate" ] || [ ! -r "$key" ]; then
      die "--tls files needs --certificate and --key, two readable files."
    fi
  fi
  if [ "$tls" = acme ] && [[ $instances_url == *'{instance}'* ]]; then
    die "A wildcard certificate needs validation by DNS, which this installer does not support: get a certificate yourself, and use --tls files."
  fi
  ask mail "Mail server (none: codes are written to a folder)" none "--mail"
  fits --mail "$mail" '^[A-Za-z0-9.:-]+$' "write a host name or \"none\"."
  fits --mail-port "$mail_port" '^[0-9]+$' "write a number."
  fits --mail-security "$mail_security" '^(starttls|tls|none)$' "choose starttls, tls or none."
  fits --images "$images" '^(pull|build|none)$' "choose pull, build or none."
  fits --domains "$domains" '^[a-z0-9.,-]*$' "write it like example.org,institute.example.net."
  [ -z "$more" ] || [ -r "$more" ] || die "--settings: $more cannot be read."
  if [ "$tls" = outer ] && ! grep -Eqs '^[[:space:]]*tls[[:space:]]*=[[:space:]]*"outer"' "$more"; then
    die "--tls outer needs --settings with the outer proxy: [proxy], trusted and tls = \"outer\"."
  fi
  [ -z "$mail_password_file" ] || [ -r "$mail_password_file" ] || die "--mail-password-file: $mail_password_file cannot be read."
}

# -- the steps -----------------------------------------------------------------------------------------------------------

# A person of that name, with more groups or a log-in, would give the portal rights that it must not have.
check_user() {
  getent passwd $user >/dev/null || return 0
  if [ "$(id -u $user)" -ge 1000 ] || [ "$(id -u $user)" -eq 0 ] || [ "$(id -G $user)" != "$(id -g $user)" ]; then
    die "The user $user already exists, and is a person or has more groups: the portal needs a system user of that name for itself."
  fi
}

add_user() {
  getent passwd $user >/dev/null ||
    useradd --system --user-group --home-dir $state --no-create-home --shell /usr/sbin/nologin $user
}

# The Python packages of the lock file, shared by all versions that have the same one.
make_packages() {
  local pip log from=()
  [ ! -e "$packages/.complete" ] || return 0
  [ -z "$wheelhouse" ] || from=(--no-index --find-links "$wheelhouse")
  rm -rf "$packages"
  install -d -m 0755 $opt $opt/packages
  log=$(mktemp)
  "$PYTHON" -m venv "$packages"
  pip=("$packages/bin/python" -m pip --disable-pip-version-check --quiet)
  if ! "${pip[@]}" install "${from[@]}" --require-hashes -r requirements.lock >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -rf "$packages"
    die "The Python packages could not be installed; see above."
  fi
  rm -f "$log"
  chmod -R go+rX,go-w "$packages"
  touch "$packages/.complete"
}

make_release() {
  local log site_packages
  # After a new release of the distribution, the Python that it was made with may be gone.
  if [ -e "$release/.complete" ] && "$release/bin/python" -I -c 'import launchpad' 2>/dev/null; then return 0; fi
  rm -rf "$release"
  install -d -m 0755 $opt/releases
  log=$(mktemp)
  "$PYTHON" -m venv --without-pip "$release"
  site_packages=$("$release/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  printf '%s\n' "$packages/${site_packages#"$release/"}" >"$site_packages/packages.pth"
  if ! "$packages/bin/python" -m pip --python "$release/bin/python" --disable-pip-version-check --quiet \
    install --no-deps --no-build-isolation . >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -rf "$release"
    die "This version could not be installed; see above."
  fi
  rm -f "$log"
  # What puts this version into force, and back into force after an upgrade that failed; and its documentation.
  install -d -m 0755 "$release/share/launchpad"
  cp -R deploy docs "$release/share/launchpad/"
  printf '%s\n' "$version" >"$release/version"
  chmod -R go+rX,go-w "$release"
  touch "$release/.complete"
}

# put MODE FROM TO: the file is there whole or as it was, also when the disk is full.
put() {
  if install -m "$1" "$2" "$3.new" && mv -f "$3.new" "$3"; then return 0; fi
  rm -f "$3.new"
  return 1
}

# put_into_force RELEASE: the program and the units of that version; services are not touched.
put_into_force() {
  local deploy=$1/share/launchpad/deploy each now
  now=$(readlink $opt/current 2>/dev/null || true)
  if [ -n "$now" ] && [ "$now" != "$1" ]; then # units that only the other version has
    for each in "$now"/share/launchpad/deploy/systemd/launchpad*.*; do
      [ -e "$deploy/systemd/${each##*/}" ] || rm -f "/etc/systemd/system/${each##*/}"
    done
  fi
  for each in "$deploy"/systemd/*.service "$deploy"/systemd/*.socket "$deploy"/systemd/*.timer; do
    put 0644 "$each" "/etc/systemd/system/${each##*/}" || return 1
  done
  ln -sfn "$1" $opt/.next && mv -T $opt/.next $opt/current &&
    ln -sfn $opt/current/bin/launchpad /usr/local/bin/launchpad &&
    put 0755 "$deploy/launchpad-apply" /usr/local/sbin/launchpad-apply &&
    put 0644 "$deploy/systemd/launchpad.tmpfiles" /etc/tmpfiles.d/launchpad.conf &&
    systemd-tmpfiles --create /etc/tmpfiles.d/launchpad.conf &&
    systemctl daemon-reload
}

quoted_list() { sed 's/[^,]\+/"&"/g; s/,/, /g' <<<"$1"; }
# setting KEY: what the settings file says of a text without a table.
setting() { sed -n "s/^[[:space:]]*$1[[:space:]]*=[[:space:]]*[\"']\([^\"']*\)[\"'].*/\1/p" $etc/launchpad.toml | head -n 1; }
toml_string() { printf '"%s"' "$(sed 's/\\/\\\\/g; s/"/\\"/g' <<<"$1")"; }

write_settings() {
  local lines='host = ""' text
  if [ "$mail" != none ]; then
    lines="host = \"$mail\""$'\n'"port = $mail_port"$'\n'"security = \"$mail_security\""
    [ -z "$mail_username" ] || lines+=$'\n'"username = $(toml_string "$mail_username")"
    [ -z "$mail_password_file" ] || lines+=$'\n'"password = $(toml_string "$(head -n 1 "$mail_password_file")")"
    lines+=$'\n'"from_address = $(toml_string "${mail_from:-${admin%%,*}}")"
  fi
  text=$(<deploy/launchpad.toml)
  # In quotation marks, since bash 5.2 gives an & in a replacement a meaning.
  text=${text//@PUBLIC_URL@/"$url"}
  text=${text//@INSTANCES_URL@/"$instances_url"}
  text=${text//@ADMIN_EMAILS@/"$(quoted_list "$admin")"}
  text=${text//@ALLOWED_DOMAINS@/"$(quoted_list "$domains")"}
  text=${text//@MAIL@/"$lines"}
  text=${text//@REST@/"${more:+$(<"$more")}"}
  install -d -m 0755 $etc
  install -m 0640 -g $user /dev/null $etc/launchpad.toml.new
  printf '%s\n' "$text" >$etc/launchpad.toml.new
  if ! LAUNCHPAD_CONFIG=$etc/launchpad.toml.new launchpad nginx render >/dev/null; then
    die "These settings are not valid; see above. Nothing was changed ($etc/launchpad.toml.new)."
  fi
  mv $etc/launchpad.toml.new $etc/launchpad.toml
}

make_state() {
  install -d -m 0700 -o $user -g $user $state
  install -d -m 0755 $helper_state
  launchpad user list --json >/dev/null # makes keys and database, as the portal's user
}

names() {
  local each
  for each in "$url" "$instances_url"; do
    each=${each#https://}
    each=${each%%:*}
    printf '%s\n' "${each/\{instance\}/*}"
  done
}

self_signed() {
  local list
  list=$(names | sed 's/^/DNS:/' | paste -sd,)
  openssl req -x509 -newkey rsa:3072 -nodes -days 825 -subj "/CN=$(names | head -n 1)" -addext "subjectAltName=$list" \
    -keyout $etc/tls/key.pem.new -out $etc/tls/chain.pem.new 2>/dev/null
  mv -f $etc/tls/key.pem.new $etc/tls/key.pem
  mv -f $etc/tls/chain.pem.new $etc/tls/chain.pem
}

put_certificate() {
  install -d -m 0755 $etc
  install -d -m 0700 $etc/tls
  rm -f $etc/tls/acme-wanted
  # Before the settings say that there is a certificate: an installation that ends here is begun anew.
  case $tls in
    files)
      install -m 0644 "$certificate" $etc/tls/chain.pem
      install -m 0600 "$key" $etc/tls/key.pem
      ;;
    outer) ;; # none is needed, and [tls] is not looked at
    self-signed) [ -e $etc/tls/chain.pem ] || self_signed ;;
    acme) # until the authority has looked, which another run asks again
      [ -e $etc/tls/chain.pem ] || self_signed
      printf '%s\n' "${acme_email:-${admin%%,*}}" >$etc/tls/acme-wanted
      ;;
  esac
}

# Whether a certificate was to be had from the authority, and there still is none but our own.
wants_acme() {
  [ -s $etc/tls/acme-wanted ] || return 1
  [ "$(openssl x509 -in $etc/tls/chain.pem -noout -subject_hash 2>/dev/null)" = \
    "$(openssl x509 -in $etc/tls/chain.pem -noout -issuer_hash 2>/dev/null)" ]
}

get_acme_certificate() {
  local each list=()
  install_packages certbot=certbot
  install -d -m 0755 /var/lib/letsencrypt/launchpad
  while read -r each; do list+=(-d "$each"); done < <(names)
  if ! certbot certonly --non-interactive --agree-tos --email "$(<$etc/tls/acme-wanted)" --webroot \
    --webroot-path /var/lib/letsencrypt/launchpad --cert-name launchpad "${list[@]}" --deploy-hook "systemctl reload nginx"; then
    left+=("Let's Encrypt did not issue a certificate, see above: browsers warn until it does. Solve the problem, and run ./install.sh again.")
    return 0
  fi
  ln -sfn /etc/letsencrypt/live/launchpad/fullchain.pem $etc/tls/chain.pem
  ln -sfn /etc/letsencrypt/live/launchpad/privkey.pem $etc/tls/key.pem
  rm -f $etc/tls/acme-wanted
  launchpad-apply
}

# Instances outlive a restart of the engine. It is told by a reload: a restart would end what else runs in it.
prepare_engine() {
  local now
  systemctl enable --quiet --now docker
  now=$(docker info --format '{{.LiveRestoreEnabled}} {{.Swarm.LocalNodeState}}') ||
    die "The container engine does not answer; see: journalctl -u docker."
  case $now in
    true*) return 0 ;;
    *inactive) ;;
    *) # of a swarm: it would not start again with it
      left+=("The container engine is part of a swarm, so instances end when it is restarted.")
      return 0
      ;;
  esac
  if [ ! -s /etc/docker/daemon.json ]; then
    install -d -m 0755 /etc/docker
    printf '{\n  "live-restore": true\n}\n' >/etc/docker/daemon.json.new
    mv -f /etc/docker/daemon.json.new /etc/docker/daemon.json
  fi
  if grep -Eq '"live-restore"[[:space:]]*:[[:space:]]*true' /etc/docker/daemon.json; then
    systemctl reload docker
  else
    left+=("Set \"live-restore\": true in /etc/docker/daemon.json, so that instances survive a restart of the engine.")
  fi
}

start_services() {
  systemctl enable --quiet "${started[@]}"
  systemctl start "${started[@]}"
}

set_up_nginx() {
  launchpad-apply
  # Where nginx was here before, somebody may have made a site of it.
  if [ -z "$had_nginx" ] && [ -L /etc/nginx/sites-enabled/default ]; then
    rm /etc/nginx/sites-enabled/default
    systemctl reload nginx
    left+=("nginx's welcome page was disabled (/etc/nginx/sites-available/default was kept).")
  fi
}

get_images() {
  if ! launchpad images "$images"; then
    left+=("The images are missing: see above, and run \"sudo launchpad images $images\" again.")
  fi
}

# is_healthy: the portal answers through nginx, with database and helper, three times in a row.
is_healthy() {
  local port=${url##*:} at=$url host ask answered=0
  [[ $port =~ ^[0-9]+$ ]] || port=443
  host=$(names | head -n 1)
  ask=(curl --silent --fail --insecure --noproxy '*' --max-time 10 --output /dev/null --resolve "$host:$port:127.0.0.1")
  # Behind an outer proxy, which alone nginx may answer, by the portal's socket.
  if grep -q '^\[proxy\]' $etc/launchpad.toml; then
    at=http://localhost
    ask=(curl --silent --fail --noproxy '*' --max-time 10 --output /dev/null --unix-socket /run/launchpad/portal.sock)
  fi
  local until=$((SECONDS + 180))
  while [ $SECONDS -lt $until ] && [ -z "$broken_off" ]; do
    if systemctl is-failed --quiet launchpad.service launchpad-helper.service nginx.service; then return 1; fi
    if "${ask[@]}" "$at/readyz" && "${ask[@]}" "$at/sign-in"; then
      answered=$((answered + 1))
      if [ $answered -eq 3 ]; then
        systemctl is-active --quiet launchpad.service && systemctl is-active --quiet launchpad-helper.service
        return
      fi
    else
      answered=0
    fi
    sleep 1
  done
  return 1
}

wait_until_ready() {
  is_healthy || die "The portal does not become ready; see: journalctl -u launchpad -u launchpad-helper, and launchpad doctor."
}

# -- another version -----------------------------------------------------------------------------------------------------

check_upgrade() {
  "$release/bin/launchpad" release check --installed "$(cat "$before/version" 2>/dev/null || echo 0)" ||
    die "Nothing was changed."
  is_healthy || say "The running version is not healthy: if the new one is not either, the upgrade is rolled back to it."
}

keep_database() {
  if [ -n "$(setting database_url)" ]; then
    say "The database is on another server and is not copied: make a dump of it to be able to roll back."
    return
  fi
  if [ -n "$unfinished" ]; then # the copy from then, unless the tables are still the same
    "$release/bin/launchpad" release keep --again || die "Nothing was changed."
  elif ! { "$before/bin/launchpad" backup >/dev/null && "$release/bin/launchpad" release keep; }; then
    die "Nothing was changed."
  fi
}

# Requests wait at the sockets meanwhile; instances are the engine's, and go on.
switch() {
  systemctl stop "${timers[@]}"
  while [ -z "$broken_off" ] && [ "$(systemctl show -p ActiveState --value launchpad-sweep.service)" = activating ]; do
    sleep 1
  done
  [ -z "$broken_off" ] && put_into_force "$release" &&
    systemctl restart launchpad-helper.service launchpad.service &&
    launchpad-apply &&
    is_healthy
}

# Whatever of this fails, the rest is tried.
switch_back() {
  journalctl --no-pager -n 40 -u launchpad -u launchpad-helper >&2 || true
  systemctl stop launchpad.socket launchpad.service launchpad-helper.service || true
  put_into_force "$before" || true
  "$before/bin/launchpad" release back || true
  systemctl reset-failed launchpad.service launchpad-helper.service 2>/dev/null || true
  systemctl enable --quiet "${started[@]}" || true
  systemctl start "${started[@]}" || true
  launchpad-apply || true
}

# What says no is heard by nobody once the terminal is gone.
into_the_log() { exec > >(exec logger -t launchpad-install) 2>&1; }

# Ctrl-C or a lost connection amid it: back. A power cut: the mark tells the next run what was in force before.
upgrade() {
  local why="did not become healthy"
  ln -sfn "$before" $opt/.next && mv -T $opt/.next $mark
  trap 'broken_off=1' INT TERM
  trap 'broken_off=1; into_the_log' HUP PIPE
  if switch; then
    trap '' INT TERM
    systemctl enable --quiet "${started[@]}"
    systemctl start "${started[@]}"
    rm -f $mark
    trap - INT TERM HUP PIPE
    return
  fi
  trap '' INT TERM
  trap into_the_log HUP PIPE
  [ -z "$broken_off" ] || why="was interrupted"
  broken_off=''
  say "Version $version $why (the log follows); rolling back" || true
  switch_back
  if is_healthy; then
    rm -f $mark
    die "Version $version $why. $(cat "$before/version") was restored, instances kept running; see above."
  fi
  die "Version $version $why, and $(cat "$before/version") does not respond either: see launchpad doctor."
}

# The clone is of the version that an upgrade, which was broken off, was to replace.
take_back() {
  switch_back
  is_healthy || die "$version does not respond: see launchpad doctor."
  rm -f $mark
}

# Keeps this version, the one before, and the packages they use.
tidy_up() {
  local each used=("$release" "$before")
  for each in "$release" "$before"; do # and the packages that they use
    used+=("$(sed 's|/lib/.*||' "$each"/lib/*/site-packages/packages.pth 2>/dev/null || true)")
  done
  for each in "$opt"/releases/* "$opt"/packages/*; do
    [[ " ${used[*]} " == *" $each "* ]] || rm -rf "$each"
  done
}

# -- uninstall -----------------------------------------------------------------------------------------------------------

take_away() {
  local each id=''
  [ ! -r $helper_state/deployment-id ] || id=$(<$helper_state/deployment-id)
  systemctl disable --quiet --now "${started[@]}" 2>/dev/null || true
  if [ -n "$id" ] && docker info >/dev/null 2>&1; then
    docker ps -aq --filter "label=org.launchpad.deployment=$id" | xargs -r docker rm -f >/dev/null
    launchpad network remove || left+=("The instances' network or its rules could not be removed: see docker network ls, nft list tables, iptables -S.")
  fi
  for each in "$opt"/current/share/launchpad/deploy/systemd/launchpad*.*; do rm -f "/etc/systemd/system/${each##*/}"; done
  systemctl daemon-reload
  rm -f /etc/nginx/sites-enabled/launchpad $site /etc/tmpfiles.d/launchpad.conf
  if systemctl is-active --quiet nginx; then systemctl reload nginx; fi
  rm -f /usr/local/bin/launchpad /usr/local/sbin/launchpad-apply
  rm -rf $opt /run/launchpad
}

# -- all of it -----------------------------------------------------------------------------------------------------------

[ "$(id -u)" -eq 0 ] || [ -n "$dry_run" ] || become_root ./install.sh "${arguments[@]}"
check_system

if [ -n "$uninstall" ]; then
  if [ -z "$yes" ] && [ -z "$dry_run" ]; then
    read -r -p "Running instances are stopped (files are kept). Remove the platform from this server? [y/N] " yes
    [[ $yes == [yY]* ]] || die "Nothing was done."
  fi
  step "Removing services, nginx's site, the program and containers" take_away
  printf '\n'
  say "Kept: $etc, $state, $helper_state, the user $user, the home folders, the images, and the packages."
  for each in "${left[@]}"; do say "$each"; done
  exit
fi

fresh=1
[ ! -e $etc/launchpad.toml ] || fresh=''
if [ -n "$fresh" ]; then
  questions
else
  say "The settings in $etc/launchpad.toml are kept; options for them have no effect."
  url=$(setting public_url)
  instances_url=$(setting instances_url)
  [ -n "$url" ] || die "public_url is not in $etc/launchpad.toml; the address of the portal is needed."
fi
acme=''
if [ -n "$fresh" ] && [ "$tls" = acme ]; then acme=1; elif [ -z "$fresh" ] && wants_acme; then acme=1; fi
digest() { sha256sum | head -c 10; }
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' src/launchpad/__init__.py)
release=$opt/releases/$version-$(find src images deploy docs requirements.lock pyproject.toml -type f ! -name '*.pyc' -print0 |
  sort -z | xargs -0 sha256sum | digest)
before=$(readlink $opt/current 2>/dev/null || true)
unfinished=''
[ ! -e $mark/.complete ] || unfinished=$(readlink $mark) # as long as there is a way back
before=${unfinished:-$before}
# What was put there and never ran, since the installation was broken off, is no version to come back to.
has_run() { systemctl is-enabled --quiet launchpad.service 2>/dev/null || [ -e $helper_state/deployment-id ]; }
is_upgrade=''
if [ -z "$fresh" ] && [ -n "$before" ] && [ "$before" != "$release" ] && has_run; then is_upgrade=1; fi
had_nginx=$(command -v nginx || true)
[ -z "$fresh" ] || check_user

needed=(nginx=nginx-light dockerd=docker.io iptables=iptables nft=nftables ss=iproute2 curl=curl openssl=openssl
  /etc/ssl/certs/ca-certificates.crt=ca-certificates)
# Where the kernel has AppArmor on, the engine starts nothing without its parser.
[ "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)" != Y ] || needed+=(apparmor_parser=apparmor)
[ "$images" != build ] || needed+=(debootstrap=debootstrap)
step "Installing packages of the distribution" install_packages "${needed[@]}"
# A package of its own from Debian 13 on.
if [ -z "$dry_run" ] && apt-cache show docker-cli >/dev/null 2>&1; then install_packages docker=docker-cli; fi
if [ -z "$dry_run" ]; then need_python; else PYTHON=$(find_python || echo python3); fi
packages=$opt/packages/$({ cat requirements.lock && "$PYTHON" --version; } | digest)
step "Creating the user $user" add_user
step "Installing Python packages into $packages" make_packages
step "Installing version $version into $release" make_release
if [ -n "$is_upgrade" ]; then
  step "Checking whether $version can replace the running version" check_upgrade
  step "Copying the database, for a rollback" keep_database
  step "Switching to version $version; instances keep running" upgrade
else
  [ -z "$unfinished" ] || step "Rolling back an upgrade that was interrupted" take_back
  step "Activating version $version" put_into_force "$release"
  [ -z "$fresh" ] || step "Installing the certificate in $etc/tls ($tls)" put_certificate
  [ -z "$fresh" ] || step "Writing $etc/launchpad.toml" write_settings
  step "Preparing the container engine" prepare_engine
  step "Creating keys and database in $state" make_state
  step "Starting services" start_services
  step "Setting up nginx" set_up_nginx
fi
[ "$images" = none ] || step "Getting the environments' images ($images); this can take a while" get_images
[ -n "$is_upgrade" ] || step "Waiting until the portal is ready" wait_until_ready
step "Removing versions that are no longer needed" tidy_up
[ -z "$acme" ] || step "Getting a certificate from Let's Encrypt" get_acme_certificate
[ -z "$test_mail" ] || step "Sending a test mail to $test_mail" launchpad doctor mail --to "$test_mail"
[ -z "$dry_run" ] || exit 0

printf '\n'
say "Done:"
printf '    %s\n' "${did[@]}"
launchpad doctor || true
printf '\n'
say "Left for you:"
[ "$tls" != self-signed ] || left+=("Browsers warn about the self-signed certificate: install another one in $etc/tls, then run launchpad-apply.")
[ "$images" != none ] || left+=("Get the images: sudo launchpad images pull (or build).")
[ "$mail" != none ] || left+=("Codes go to $state/outbox until [mail] in $etc/launchpad.toml names a server.")
if [ "$tls" = outer ]; then
  left+=("Configure the outer proxy to forward $(names | paste -sd' ') to this server: docs/howto/reverse-proxy.md.")
else
  left+=("Check that $(names | paste -sd' ') resolve to this server, and that its ports 80 and 443 are open, and no others.")
fi
left+=("Sign in at $url with an address of admin_emails.")
printf '    %s\n' "${left[@]}"
printf 'Ready: %s\n' "$url"
