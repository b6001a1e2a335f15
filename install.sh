#!/usr/bin/env bash
# Makes a server of Debian 12 or newer, or Ubuntu 22.04 or newer, into a running Data-Science Launchpad behind TLS.
# Run again, it brings everything to the state of this clone and keeps settings, data and running instances.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

usage() {
  cat <<'TEXT'
sudo ./install.sh [options]

It asks at most five questions; each has an option, and with --unattended nothing is asked.

  --url URL               where people find the portal, such as https://lab.example.org
  --instances-url URL     where instances are, such as https://run.lab.example.org (default: run.<the portal's name>),
                          or one name each: https://{instance}.lab.example.org
  --admin ADDRESS         e-mail address of the first administrator (several: separated by commas)
  --tls WAY               self-signed (for a trial), acme (Let's Encrypt, through certbot), files, or outer (another proxy
                          before this server ends TLS; name it in --settings: docs/howto/reverse-proxy.md)
    --certificate FILE      with files: the chain, PEM
    --key FILE              with files: the private key, PEM
    --acme-email ADDRESS    with acme: where the authority writes to (default: the first administrator)
  --mail HOST             mail server, or \"none\": codes are then written to a folder
    --mail-port N           default 587
    --mail-security WAY     starttls (default), tls, none
    --mail-username NAME    and the password in the file of
    --mail-password-file FILE
    --mail-from ADDRESS     sender of every mail

  --domains LIST          domains whose addresses may sign in, separated by commas (default: any)
  --images WAY            pull (default), build, or none: where the environments' images come from
  --settings FILE         more settings, TOML, put at the end of the new settings file
  --wheelhouse FOLDER     take Python packages from this folder, for servers without a way out
  --test-mail ADDRESS     at the end, send a mail there
  --unattended            ask nothing; what has no option takes its default, or stops with what is missing
  --dry-run               say what would be done, and do nothing
  --uninstall             take the platform off this server; settings, database and homes stay
  --yes                   with --uninstall: do not ask
TEXT
}

etc=/etc/launchpad state=/var/lib/launchpad helper_state=/var/lib/launchpad-helper opt=/opt/launchpad
user=launchpad site=/etc/nginx/sites-available/launchpad
units=(launchpad.socket launchpad.service launchpad-helper.socket launchpad-helper.service launchpad-sweep.service
  launchpad-sweep.timer)
started=(launchpad-helper.socket launchpad.socket launchpad-helper.service launchpad.service launchpad-sweep.timer)

url='' instances_url='' admin='' tls='' certificate='' key='' acme_email='' domains='' images=pull more='' wheelhouse=''
mail='' mail_port=587 mail_security=starttls mail_username='' mail_password_file='' mail_from='' test_mail=''
unattended='' dry_run='' uninstall='' yes=''
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

fits() { [[ $2 =~ $3 ]] || die "$1: \"$2\" does not fit; $4"; }

# -- before anything is done ---------------------------------------------------------------------------------------------

check_system() {
  local ID='' VERSION_ID=''
  [ ! -r /etc/os-release ] || . /etc/os-release
  case "$ID" in
    debian) [ "${VERSION_ID%%.*}" -ge 12 ] || die "Debian 12 or newer is needed; this is $VERSION_ID." ;;
    ubuntu) [ "${VERSION_ID%%.*}" -ge 22 ] || die "Ubuntu 22.04 or newer is needed; this is $VERSION_ID." ;;
    *) die "This installer knows Debian and Ubuntu; this is \"${ID:-something else}\"." ;;
  esac
  [ -d /run/systemd/system ] || die "systemd does not run here; for a trial without it, use ./quickstart."
}

questions() {
  local host
  ask url "Where will people find the portal (https://…)" "" "--url"
  fits --url "$url" '^https://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]+)?$' "it is like https://lab.example.org."
  host=${url#https://}
  ask instances_url "Where will their instances be (another name that leads to this server)" "https://run.$host" \
    "--instances-url"
  fits --instances-url "$instances_url" '^https://(\{instance\}\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]+)?$' \
    "it is like https://run.lab.example.org or https://{instance}.lab.example.org."
  ask admin "E-mail address of the first administrator" "" "--admin"
  fits --admin "$admin" '^[^@,"\\[:space:]]+@[^@,"\\[:space:]]+(,[^@,"\\[:space:]]+@[^@,"\\[:space:]]+)*$' "it is like you@example.org."
  [ -z "$certificate" ] || tls=${tls:-files}
  ask tls "Certificate: self-signed (trial), acme (Let's Encrypt) or files (--certificate, --key)" self-signed "--tls"
  fits --tls "$tls" '^(self-signed|acme|files|outer)$' "choose self-signed, acme, files or outer."
  if [ "$tls" = files ]; then
    if [ ! -r "$certificate" ] || [ ! -r "$key" ]; then
      die "--tls files needs --certificate and --key, two files that can be read."
    fi
  fi
  if [ "$tls" = acme ] && [[ $instances_url == *'{instance}'* ]]; then
    die "A wildcard certificate needs a proof by DNS, which this installer cannot give: get one, and use --tls files."
  fi
  ask mail "Mail server (none: codes are written to a folder)" none "--mail"
  fits --mail "$mail" '^[A-Za-z0-9.:-]+$' "it is a host name or \"none\"."
  fits --mail-port "$mail_port" '^[0-9]+$' "it is a number."
  fits --mail-security "$mail_security" '^(starttls|tls|none)$' "choose starttls, tls or none."
  fits --images "$images" '^(pull|build|none)$' "choose pull, build or none."
  fits --domains "$domains" '^[a-z0-9.,-]*$' "it is like example.org,institute.example.net."
  [ -z "$more" ] || [ -r "$more" ] || die "--settings: $more cannot be read."
  if [ "$tls" = outer ] && ! grep -Eqs '^[[:space:]]*tls[[:space:]]*=[[:space:]]*"outer"' "$more"; then
    die "--tls outer needs --settings with the outer proxy: [proxy], trusted and tls = \"outer\"."
  fi
  [ -z "$mail_password_file" ] || [ -r "$mail_password_file" ] || die "--mail-password-file: it cannot be read."
}

# -- the steps -----------------------------------------------------------------------------------------------------------

add_user() {
  getent passwd $user >/dev/null ||
    useradd --system --user-group --home-dir $state --no-create-home --shell /usr/sbin/nologin $user
}

make_release() {
  local pip log from=()
  [ -z "$wheelhouse" ] || from=(--no-index --find-links "$wheelhouse")
  if [ ! -e "$release/.complete" ]; then
    rm -rf "$release"
    install -d -m 0755 $opt $opt/releases
    log=$(mktemp)
    "$PYTHON" -m venv "$release"
    pip=("$release/bin/python" -m pip --disable-pip-version-check --quiet)
    if ! { "${pip[@]}" install "${from[@]}" --require-hashes -r requirements.lock &&
      "${pip[@]}" install --no-deps --no-build-isolation .; } >"$log" 2>&1; then
      tail -n 20 "$log" >&2
      rm -rf "$release"
      die "The Python packages could not be installed; see above."
    fi
    rm -f "$log"
    chmod -R go+rX,go-w "$release"
    touch "$release/.complete"
  fi
  ln -sfn "$release" $opt/.next && mv -T $opt/.next $opt/current
  ln -sfn $opt/current/bin/launchpad /usr/local/bin/launchpad
  install -m 0755 deploy/launchpad-apply /usr/local/sbin/launchpad-apply
}

quoted_list() { sed 's/[^,]\+/"&"/g; s/,/, /g' <<<"$1"; }

write_settings() {
  local lines='host = ""' text
  if [ "$mail" != none ]; then
    lines="host = \"$mail\""$'\n'"port = $mail_port"$'\n'"security = \"$mail_security\""
    [ -z "$mail_username" ] || lines+=$'\n'"username = \"$mail_username\""
    [ -z "$mail_password_file" ] || lines+=$'\n'"password = '$(head -n 1 "$mail_password_file")'"
    lines+=$'\n'"from_address = \"${mail_from:-${admin%%,*}}\""
  fi
  text=$(<deploy/launchpad.toml)
  text=${text//@PUBLIC_URL@/$url}
  text=${text//@INSTANCES_URL@/$instances_url}
  text=${text//@ADMIN_EMAILS@/$(quoted_list "$admin")}
  text=${text//@ALLOWED_DOMAINS@/$(quoted_list "$domains")}
  text=${text//@MAIL@/$lines}
  text=${text//@REST@/${more:+$(<"$more")}}
  install -d -m 0755 $etc
  install -m 0640 -g $user /dev/null $etc/launchpad.toml.new
  printf '%s\n' "$text" >$etc/launchpad.toml.new
  if ! LAUNCHPAD_CONFIG=$etc/launchpad.toml.new launchpad nginx render >/dev/null; then
    die "These settings do not fit; see above. Nothing was put into force ($etc/launchpad.toml.new)."
  fi
  mv $etc/launchpad.toml.new $etc/launchpad.toml
}

make_state() {
  install -d -m 0700 -o $user -g $user $state
  install -d -m 0755 $helper_state
  systemd-tmpfiles --create /etc/tmpfiles.d/launchpad.conf
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
    -keyout $etc/tls/key.pem -out $etc/tls/chain.pem 2>/dev/null
}

put_certificate() {
  install -d -m 0700 $etc/tls
  case $tls in
    files)
      install -m 0644 "$certificate" $etc/tls/chain.pem
      install -m 0600 "$key" $etc/tls/key.pem
      ;;
    outer) ;; # none is needed, and [tls] is not looked at
    self-signed | acme) [ -e $etc/tls/chain.pem ] || self_signed ;; # acme: until the authority has looked
  esac
}

get_acme_certificate() {
  local each list=()
  install_packages certbot=certbot
  install -d -m 0755 /var/lib/letsencrypt/launchpad
  while read -r each; do list+=(-d "$each"); done < <(names)
  certbot certonly --non-interactive --agree-tos --email "${acme_email:-${admin%%,*}}" --webroot \
    --webroot-path /var/lib/letsencrypt/launchpad --cert-name launchpad "${list[@]}" --deploy-hook "systemctl reload nginx"
  ln -sfn /etc/letsencrypt/live/launchpad/fullchain.pem $etc/tls/chain.pem
  ln -sfn /etc/letsencrypt/live/launchpad/privkey.pem $etc/tls/key.pem
  systemctl reload nginx
}

install_units() {
  local each
  for each in "${units[@]}"; do install -m 0644 "deploy/systemd/$each" "/etc/systemd/system/$each"; done
  install -m 0644 deploy/systemd/launchpad.tmpfiles /etc/tmpfiles.d/launchpad.conf
  systemctl daemon-reload
}

prepare_engine() {
  if [ ! -e /etc/docker/daemon.json ]; then
    install -d -m 0755 /etc/docker
    # Instances outlive a restart of the engine.
    printf '{\n  "live-restore": true\n}\n' >/etc/docker/daemon.json
    systemctl restart docker
  elif ! grep -q live-restore /etc/docker/daemon.json; then
    left+=("Set \"live-restore\": true in /etc/docker/daemon.json, and instances outlive a restart of the engine.")
  fi
  systemctl enable --quiet --now docker
}

start_services() {
  local changed=$1
  systemctl enable --quiet "${started[@]}"
  systemctl start launchpad-helper.socket launchpad.socket
  if [ -n "$changed" ]; then
    systemctl restart launchpad-helper.service launchpad.service
  fi
  systemctl start "${started[@]}"
}

set_up_nginx() {
  launchpad-apply
  if [ -L /etc/nginx/sites-enabled/default ]; then
    rm /etc/nginx/sites-enabled/default
    systemctl reload nginx
    left+=("nginx's welcome page was switched off (/etc/nginx/sites-available/default is still there).")
  fi
}

get_images() {
  if ! launchpad images "$images"; then
    left+=("The images could not be had: see above, and run \"sudo launchpad images $images\" again.")
  fi
}

# Through nginx, as a browser would ask; behind an outer proxy, which nginx may answer alone, by the portal's socket.
is_ready() {
  local port=${url##*:} ask=(curl --silent --fail --noproxy '*' --output /dev/null)
  if grep -q '^\[proxy\]' $etc/launchpad.toml; then
    systemctl is-active --quiet nginx && "${ask[@]}" --unix-socket /run/launchpad/portal.sock http://localhost/readyz
  else
    [[ $port =~ ^[0-9]+$ ]] || port=443
    "${ask[@]}" --insecure --resolve "$(names | head -n 1):$port:127.0.0.1" "$url/readyz"
  fi
}

wait_until_ready() {
  for _ in $(seq 60); do
    if is_ready; then
      return
    fi
    sleep 1
  done
  die "The portal does not become ready; see: journalctl -u launchpad -u launchpad-helper, and launchpad doctor."
}

# -- uninstall -----------------------------------------------------------------------------------------------------------

take_away() {
  local each id=''
  [ ! -r $helper_state/deployment-id ] || id=$(<$helper_state/deployment-id)
  systemctl disable --quiet --now "${started[@]}" 2>/dev/null || true
  if [ -n "$id" ] && docker info >/dev/null 2>&1; then
    docker ps -aq --filter "label=org.launchpad.deployment=$id" | xargs -r docker rm -f >/dev/null
    launchpad network remove || left+=("The instances' network or its rules are still there: docker network ls, iptables -S.")
  fi
  for each in "${units[@]}"; do rm -f "/etc/systemd/system/$each"; done
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
    read -r -p "Running instances are ended (files stay). Take the platform off this server? [y/N] " yes
    [[ $yes == [yY]* ]] || die "Nothing was done."
  fi
  step "Taking away services, nginx's site, the program and containers" take_away
  printf '\n'
  say "Kept: $etc, $state, $helper_state, the user $user, the homes, the images, and the packages."
  for each in "${left[@]}"; do say "$each"; done
  exit
fi

fresh=1
[ ! -e $etc/launchpad.toml ] || fresh=''
if [ -n "$fresh" ]; then
  questions
else
  say "The settings in $etc/launchpad.toml are kept; options for them have no effect."
  url=$(sed -n 's/^public_url *= *"\(.*\)"/\1/p' $etc/launchpad.toml | head -n 1)
  instances_url=$(sed -n 's/^instances_url *= *"\(.*\)"/\1/p' $etc/launchpad.toml | head -n 1)
fi
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml | head -n 1)
release=$opt/releases/$version-$(find src images deploy requirements.lock pyproject.toml -type f ! -name '*.pyc' -print0 |
  sort -z | xargs -0 sha256sum | sha256sum | head -c 10)
before=$(readlink $opt/current 2>/dev/null || true)

packages=(nginx=nginx-light dockerd=docker.io iptables=iptables ss=iproute2 curl=curl openssl=openssl
  /etc/ssl/certs/ca-certificates.crt=ca-certificates)
[ "$images" != build ] || packages+=(debootstrap=debootstrap)
step "Installing packages of the distribution" install_packages "${packages[@]}"
[ -n "$dry_run" ] || need_python
step "Making the user $user" add_user
step "Putting version $version into $release" make_release
[ -z "$fresh" ] || step "Writing $etc/launchpad.toml" write_settings
[ -z "$fresh" ] || step "Putting the certificate into $etc/tls ($tls)" put_certificate
step "Installing services" install_units
step "Preparing the container engine" prepare_engine
step "Making keys and database in $state" make_state
step "Starting services" start_services "$([ "$before" = "$release" ] || echo changed)"
step "Setting up nginx" set_up_nginx
[ "$images" = none ] || step "Getting the environments' images ($images); this can take a while" get_images
step "Waiting until the portal is ready" wait_until_ready
[ -z "$fresh" ] || [ "$tls" != acme ] || step "Getting a certificate from Let's Encrypt" get_acme_certificate
[ -z "$test_mail" ] || step "Sending a mail to $test_mail" launchpad doctor mail --to "$test_mail"
[ -z "$dry_run" ] || exit 0

printf '\n'
say "Done:"
printf '    %s\n' "${did[@]}"
launchpad doctor || true
printf '\n'
say "Left for you:"
[ "$tls" != self-signed ] || left+=("Browsers warn of the self-signed certificate: put another into $etc/tls, then run launchpad-apply.")
[ "$images" != none ] || left+=("Get the images: sudo launchpad images pull (or build).")
[ "$mail" != none ] || left+=("Codes go to $state/outbox until [mail] in $etc/launchpad.toml names a server.")
if [ "$tls" = outer ]; then
  left+=("Let the outer proxy pass $(names | paste -sd' ') on to this server: docs/howto/reverse-proxy.md.")
else
  left+=("See that $(names | paste -sd' ') lead to this server, and that ports 80 and 443 are open, and no others of this server.")
fi
left+=("Sign in at $url with an address of admin_emails.")
printf '    %s\n' "${left[@]}"
printf 'Ready: %s\n' "$url"
