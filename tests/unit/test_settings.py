"""The settings: what is read from where, and that every mistake is named by file, line and key, or by variable."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from launchpad.domain.policy import IdleAction, IdleRule
from launchpad.errors import SettingsError
from launchpad.settings import Settings, load_settings, tables
from launchpad.settings.images import server_zone
from launchpad.wiring import build_platform

GB = 1024**3
Written = Callable[[str], Path]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Writes a settings file."""

    def write(text: str) -> Path:
        path = tmp_path / "launchpad.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def mistakes(path: Path, **variables: str) -> list[str]:
    """The lines of what is said about a file, without the folder it lies in."""
    with pytest.raises(SettingsError) as caught:
        load_settings(path, variables=variables)
    return caught.value.detail.replace(f"{path.parent}/", "").splitlines()


# -- where settings come from ----------------------------------------------------------------------------------------


def test_without_a_file_everything_has_a_default() -> None:
    settings = tables({})
    assert settings.public_url == "http://localhost:8080"
    assert settings.sign_in.code_minutes == 10
    assert settings.sign_in.code_attempts == 5
    assert settings.limits.memory == "auto"
    assert settings.resolved_database_url == "sqlite+aiosqlite:////var/lib/launchpad/launchpad.db"
    assert [entry.name for entry in settings.environments] == ["rstudio", "jupyterlab"]


@pytest.mark.parametrize(
    "url", ["postgresql://u:p@h/d", "postgresql+psycopg://u:p@h/d", "mysql://h/d", "sqlite:///x.db", "/var/lib/x.db"]
)
def test_a_database_of_a_kind_that_is_not_supported_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="database_url"):
        tables({"database_url": url})


def test_no_secret_has_a_default() -> None:
    assert tables({}).mail.password is None
    assert tables({}).web.metrics_token is None


def test_the_file_is_read(written: Written) -> None:
    path = written(
        """
        public_url = "https://Lab.Example.org/"
        instances_url = "https://lab.example.org:8443"
        [limits]
        memory = ["8g", "16g"]
        [[mounts]]
        name = "shared"
        source = "/srv/data"
        target = "/data"
        """
    )
    settings = load_settings(path, variables={})
    assert settings.public_url == "https://lab.example.org"
    assert settings.is_https
    assert settings.limits.memory == (8 * GB, 16 * GB)
    assert [mount.mode for mount in settings.mounts] == ["ro"]


def test_the_file_may_be_named_by_a_variable(written: Written) -> None:
    path = written("[sign_in]\ncode_minutes = 3")
    assert load_settings(variables={"LAUNCHPAD_CONFIG": str(path)}).sign_in.code_minutes == 3


def test_the_argument_beats_the_variable_that_names_a_file(written: Written) -> None:
    path = written("[sign_in]\ncode_minutes = 3")
    assert load_settings(path, variables={"LAUNCHPAD_CONFIG": "/nowhere"}).sign_in.code_minutes == 3


def test_a_variable_beats_the_file_key_by_key(written: Written) -> None:
    path = written('public_url = "http://a.org"\n[sign_in]\ncode_minutes = 3\ncode_attempts = 4')
    variables = {"LAUNCHPAD_PUBLIC_URL": "http://b.org", "LAUNCHPAD_SIGN_IN__CODE_MINUTES": "7"}
    settings = load_settings(path, variables=variables)
    assert settings.public_url == "http://b.org"
    assert (settings.sign_in.code_minutes, settings.sign_in.code_attempts) == (7, 4)


def test_lists_and_tables_are_written_as_json_in_variables(written: Written) -> None:
    variables = {
        "LAUNCHPAD_ADMIN_EMAILS": '["Admin@Example.org"]',
        "LAUNCHPAD_LIMITS__MEMORY": '["1g", "2g"]',
        "LAUNCHPAD_LIMITS__DAYS": "[3]",
        "LAUNCHPAD_CAPACITY__MEMORY": "64g",
        "LAUNCHPAD_CAPACITY__CPUS": "auto",
        "LAUNCHPAD_SIGN_IN": '{"code_minutes": 5, "allowed_domains": ["x.edu"]}',
        "LAUNCHPAD_MOUNTS": '[{"name": "d", "source": "/d", "target": "/d", "mode": "rw"}]',
        "LAUNCHPAD_MAIL__PASSWORD": "{not json}",
        "HOME": "/root",
    }
    settings = load_settings(written(""), variables=variables)
    assert settings.admin_emails == ("admin@example.org",)
    assert settings.limits.memory == (GB, 2 * GB)
    assert settings.limits.days == (3,)
    assert settings.capacity.memory == 64 * GB
    assert settings.capacity.cpus == "auto"
    assert settings.sign_in.code_minutes == 5
    assert settings.mounts[0].mode == "rw"
    assert settings.mail.password is not None
    assert settings.mail.password.get_secret_value() == "{not json}"


def test_a_list_in_a_variable_replaces_the_files(written: Written) -> None:
    path = written('admin_emails = ["a@x.edu", "b@x.edu"]')
    assert load_settings(path, variables={"LAUNCHPAD_ADMIN_EMAILS": "[]"}).admin_emails == ()


def test_it_can_be_told_which_keys_were_given() -> None:
    """The quick start puts its own defaults only where nothing was said."""
    assert "state_dir" not in tables({}).model_fields_set
    assert "state_dir" in tables({"state_dir": "/srv/lp"}).model_fields_set


def test_secrets_do_not_show_when_settings_are_printed() -> None:
    assert "hunter2" not in repr(tables({"mail": {"password": "hunter2"}, "web": {"metrics_token": "hunter2"}}))


# -- mistakes: where ---------------------------------------------------------------------------------------------------


def test_a_file_that_is_named_but_missing(tmp_path: Path) -> None:
    assert mistakes(tmp_path / "none.toml") == ["none.toml: there is no such settings file"]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    assert mistakes(tmp_path / "folder.toml") == ["folder.toml: the settings file cannot be read: Is a directory"]


def test_a_file_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes('[mail]\nfrom_name = "Bücher"'.encode("latin-1"))
    assert mistakes(tmp_path / "latin.toml")[0].startswith("latin.toml: the settings file is not UTF-8")


def test_a_syntax_error_names_its_line(written: Written) -> None:
    [said] = mistakes(written("[sign_in]\ncode_minutes = = 5\n"))
    assert said.startswith("launchpad.toml: this is not valid TOML: ")
    assert "line 2" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[sign_in]\n\nlogin_hour = 5",
            "line 3: sign_in.login_hour: there is no such setting; did you mean login_hours?",
        ),
        (
            "[sign_in]\nverifications_per_hour_per_client = 30",
            "line 2: sign_in.verifications_per_hour_per_client: there is no such setting; it is "
            "failures_per_hour_per_client now and counts failed tries only (120 where it is not set)",
        ),
        (
            "[sign_in]\ntrusted_networks = ['10.0.0.0/8', 'campus']",
            "line 2: sign_in.trusted_networks[1]: write an address or a range, like 192.0.2.0/24 or 2001:db8:7::/48",
        ),
        ("[mail]\nfrom-name = 5", "line 2: mail.from-name: there is no such setting; did you mean from_name?"),
        ("publik_url = 'x'", "line 1: publik_url: there is no such setting; did you mean public_url?"),
        ("[singin]\nx = 1", "line 1: singin: there is no such setting; did you mean sign_in?"),
        ("_env_prefix = 'x'", "line 1: _env_prefix: there is no such setting"),
        ("zzz = 1", "line 1: zzz: there is no such setting"),
        ("sign_in.code_minutes = 100", "line 1: sign_in.code_minutes: Input should be less than or equal to 60"),
        ("[engine.host]\nx = 1", "line 1: engine.host: Input should be a valid string"),
        ("[[mounts]]\nname = 'a'\nsource = '/a'", "line 1: mounts[0].target: this setting is required"),
    ],
)
def test_a_key_that_does_not_exist_or_is_missing(written: Written, text: str, said: str) -> None:
    assert mistakes(written(text)) == [f"launchpad.toml, {said}"]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("sign_in.code_minutes", '"ten"', "Input should be a valid integer, unable to parse string as an integer"),
        ("sign_in.code_minutes", "0", "Input should be greater than or equal to 1"),
        ("sign_in.allowed_domains", '"x.edu"', "write a list, in [ ]"),
        ("mail.port", "70000", "Input should be less than or equal to 65535"),
        ("mail.security", '"ssl"', 'choose "starttls", "tls" or "none"'),
        ("mail.password", '"changeme"', "this is still the placeholder of an example; put the real secret here"),
        ("mail.password", '"<change-me>"', "this is still the placeholder of an example; put the real secret here"),
        ("web.metrics_token", '"TODO"', "this is still the placeholder of an example; put the real secret here"),
        ("homes.root", '"home"', "write an absolute path, beginning with /"),
        ("homes.root", "5", "write a path"),
        ("engine.port_range", '"20000"', "give two ports between 1024 and 65535, the smaller first, like 20000-29999"),
        ("engine.port_range", '"80-90"', "give two ports between 1024 and 65535, the smaller first, like 20000-29999"),
        ("engine.log_bytes", '"10 apples"', "“10 apples” is not a size; write it like 512m, 8g or 1.5t"),
        ("capacity.memory", '"lots"', '“lots” is not a size; write it like 512m, 8g or 1.5t, or "auto"'),
        ("capacity.memory", '"0g"', '“0g” is not a size above zero, or "auto"'),
        ("capacity.cpus", "-1", 'Input should be greater than 0, or "auto"'),
        ("capacity.max_instances", "-1", 'Input should be greater than or equal to 0, or "auto"'),
        ("limits.memory", '"lots"', 'write a list, in [ ], or "auto"'),
        ("limits.memory", "[]", 'offer at least one choice, or "auto"'),
        ("limits.days", "[]", "offer at least one choice"),
        ("limits.cpus", "[nan]", "Input should be a finite number"),
        ("public_url", '"lab.example.org"', "write it like https://lab.example.org or http://localhost:8080"),
        ("public_url", '"https://lab.example.org/x"', "only scheme, host name and port belong here, no path"),
        ("public_url", '"https://me@lab.example.org"', "only scheme, host name and port belong here, no path"),
        ("public_url", '"http://lab.example.org:99999"', "Port out of range 0-65535"),
        (
            "admin_emails",
            '["alice"]',
            "that does not look like an e-mail address; it should be like name@institute.edu",
        ),
        ("limits", "3", "this is a table; write its keys below a header in [ ]"),
        ("mounts", "{ name = 'x' }", "write a list, in [ ]"),
    ],
)
def test_a_value_that_does_not_fit_is_named_by_line_and_key(written: Written, key: str, value: str, said: str) -> None:
    section, _, name = key.rpartition(".")
    text = f"# a comment\n[{section}]\n{name} = {value}" if section else f"# a comment\n\n{name} = {value}"
    place = key + ("[0]" if value.startswith("[") and value != "[]" else "")
    assert mistakes(written(text)) == [f"launchpad.toml, line 3: {place}: {said}"]


@pytest.mark.parametrize("value", ["*.edu", "@", "nus", "x.edu/y", "büro.de", "a@b.org"])
def test_an_allowed_domain_is_written_exactly(written: Written, value: str) -> None:
    [said] = mistakes(written(f"[sign_in]\nallowed_domains = ['ok.edu', '{value}']"))
    assert said.startswith("launchpad.toml, line 2: sign_in.allowed_domains[1]: write the part after the @")


def test_every_mistake_is_told_at_once_and_each_only_once(written: Written) -> None:
    said = mistakes(written('[capacity]\nmemory = "8 apples"\ncpus = -1\nreserve = "x"\n[web]\nsweep_seconds = -1'))
    assert [line.partition(": ")[0] for line in said] == [f"launchpad.toml, line {number}" for number in (2, 3, 4, 6)]


def test_one_wrong_choice_of_a_list_is_named_by_its_place(written: Written) -> None:
    assert mistakes(written("[limits]\nmemory = ['1g', 'lots']")) == [
        "launchpad.toml, line 2: limits.memory[1]: “lots” is not a size; write it like 512m, 8g or 1.5t"
    ]


def test_the_right_one_of_several_tables_is_named(written: Written) -> None:
    text = """[[mounts]]
name = "a"
source = "/a"
target = "/a"
[[mounts]]
name = "b"
source = "b"
target = "/b"
"""
    assert mistakes(written(text)) == [
        "launchpad.toml, line 7: mounts[1].source: write an absolute path, beginning with /"
    ]


def test_a_user_name_without_a_password_is_refused(written: Written) -> None:
    said = mistakes(written("# mail\n[mail]\nusername = 'lp'"))
    assert said == ["launchpad.toml, line 2: mail: username is set, but password is not"]


def test_a_table_within_a_table_is_read_and_overridden_and_its_mistakes_are_named(written: Written) -> None:
    text = """
[mail]
host = "smtp.example.org"

[mail.bounces]
host = "imap.example.org"
username = "lp"
password = "pass word"
"""
    variables = {"LAUNCHPAD_MAIL__BOUNCES__PORT": "143", "LAUNCHPAD_MAIL__BOUNCES__SECURITY": "starttls"}
    bounces = load_settings(written(text), variables=variables).mail.bounces
    assert (bounces.host, bounces.port, bounces.security) == ("imap.example.org", 143, "starttls")
    assert (bounces.username, bounces.folder) == ("lp", "INBOX")
    assert "pass word" not in repr(bounces)
    for change, said in (
        ("password = 'changeme'", "line 8: mail.bounces.password: this is still the placeholder of an example"),
        ("", "line 5: mail.bounces: host is set, but username or password is not"),
        ("passwort = 'pass word'", "line 8: mail.bounces.passwort: there is no such setting; did you mean password?"),
    ):
        (line,) = mistakes(written(text.replace('password = "pass word"', change)))
        assert line.startswith(f"launchpad.toml, {said}")
    assert mistakes(written(text), LAUNCHPAD_MAIL__BOUNCES__FOLDER='IN"BOX') == [
        "LAUNCHPAD_MAIL__BOUNCES__FOLDER: mail.bounces.folder: write the folder's name as the server lists it, "
        "in plain letters"
    ]


def test_settings_that_do_not_fit_together_name_both_keys(written: Written) -> None:
    assert mistakes(written("public_url = 'https://x.org'")) == [
        "launchpad.toml: public_url and instances_url must both be https, or both http"
    ]
    assert mistakes(written("[tls]\nkey = '/k'")) == [
        "launchpad.toml: tls.certificate and tls.key belong together; one of them is missing"
    ]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://*.lab.example.org", "write a host name for each instance, like https://{instance}.lab.example.org"),
        ("https://x{instance}.lab.example.org", "write a host name for each instance, like"),
        ("https://lab.{instance}.example.org", "write a host name for each instance, like"),
        ("https://{instance}.{instance}.org", "write a host name for each instance, like"),
        ("https://{user}.lab.example.org", "write a host name for each instance, like"),
        ("https://{instance}.10.0.0.1", "an IP address has no subdomains"),
        ("https://{instance}.lab.example.org/x", "only scheme, host name and port belong here"),
    ],
)
def test_a_pattern_of_host_names_has_the_instance_in_front(written: Written, url: str, words: str) -> None:
    [mistake] = mistakes(written(f"public_url = 'https://lab.example.org'\ninstances_url = '{url}'"))
    assert mistake.startswith(f"launchpad.toml, line 2: instances_url: {words}")


def test_a_host_name_for_each_instance_can_be_set(written: Written) -> None:
    url = "https://{instance}.Lab.example.org:8443"
    settings = load_settings(written(f"public_url = 'https://lab.example.org'\ninstances_url = '{url}'"), variables={})
    assert settings.instances_url == "https://{instance}.lab.example.org:8443"
    assert settings.instances.url("abc") == "https://abc.lab.example.org:8443/"


def test_tables_without_a_file_name_the_key() -> None:
    with pytest.raises(SettingsError, match=r"^sign_in\.code_minutes: Input should be"):
        tables({"sign_in": {"code_minutes": 0}})


# -- mistakes in variables ---------------------------------------------------------------------------------------------


def test_a_renamed_setting_is_told_its_new_name_in_a_variable_too(written: Written) -> None:
    variables = {"LAUNCHPAD_SIGN_IN__VERIFICATIONS_PER_HOUR_PER_CLIENT": "30"}
    with pytest.raises(SettingsError, match="it is failures_per_hour_per_client now and counts failed tries only"):
        load_settings(written(""), variables=variables)


def test_an_unknown_variable_is_refused_with_the_nearest_name(written: Written) -> None:
    assert mistakes(written(""), LAUNCHPAD_SIGN_IN__CODE_MINUTS="5") == [
        "The variable LAUNCHPAD_SIGN_IN__CODE_MINUTS is not a setting; did you mean LAUNCHPAD_SIGN_IN__CODE_MINUTES?"
    ]
    assert mistakes(written(""), LAUNCHPAD_ZZZZ="5") == ["The variable LAUNCHPAD_ZZZZ is not a setting"]


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("LAUNCHPAD_SIGN_IN__CODE_MINUTES", "500", "sign_in.code_minutes: Input should be less than or equal to 60"),
        ("LAUNCHPAD_CAPACITY__MEMORY", "0g", 'capacity.memory: “0g” is not a size above zero, or "auto"'),
        ("LAUNCHPAD_LIMITS__MEMORY", "8g", 'limits.memory: write a list, in [ ], or "auto"'),
        ("LAUNCHPAD_LIMITS__MEMORY", '["1g", "0g"]', "limits.memory[1]: “0g” is not a size above zero"),
        (
            "LAUNCHPAD_SIGN_IN",
            '{"login_hours": "x"}',
            "sign_in.login_hours: Input should be a valid integer, unable to parse string as an integer",
        ),
        ("LAUNCHPAD_SIGN_IN", "[]", "sign_in: this is a table; write its keys below a header in [ ]"),
        ("LAUNCHPAD_MOUNTS", '[{"name":"a","target":"/a"}]', "mounts[0].source: this setting is required"),
        (
            "LAUNCHPAD_ENVIRONMENTS",
            '[{"name":"rstudio","home":"x"}]',
            "environments.rstudio.home: write an absolute path, beginning with /",
        ),
    ],
)
def test_a_variable_that_does_not_fit_is_named_with_its_key(
    written: Written, variable: str, value: str, said: str
) -> None:
    assert mistakes(written("[sign_in]\ncode_minutes = 5"), **{variable: value}) == [f"{variable}: {said}"]


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("LAUNCHPAD_ADMIN_EMAILS", "a@b.org", "write this list as JSON: "),
        ("LAUNCHPAD_LIMITS__DAYS", "[1,", "write this list as JSON: "),
        ("LAUNCHPAD_SIGN_IN", "code_minutes=5", "write this table as JSON: "),
        ("LAUNCHPAD_SIGN_IN__ALLOWED_DOMAINS", "x.edu", "write this list as JSON: "),
    ],
)
def test_a_variable_that_is_no_json_is_named(written: Written, variable: str, value: str, said: str) -> None:
    assert mistakes(written(""), **{variable: value})[0].startswith(f"{variable}: {said}")


def test_a_mistake_in_the_file_is_not_blamed_on_a_variable_of_the_same_section(written: Written) -> None:
    said = mistakes(written("[sign_in]\nlogin_hours = 0"), LAUNCHPAD_SIGN_IN='{"code_minutes": 5}')
    assert said == ["launchpad.toml, line 2: sign_in.login_hours: Input should be greater than or equal to 1"]


# -- the catalogue -----------------------------------------------------------------------------------------------------


def entry(settings: Settings, name: str) -> dict[str, object]:
    [found] = [one for one in settings.environments if one.name == name]
    return found.model_dump()


def test_one_key_of_a_shipped_entry_changes_and_the_rest_stays() -> None:
    shipped, changed = tables({}), tables({"environments": [{"name": "rstudio", "image": "rocker/rstudio:5"}]})
    assert entry(changed, "rstudio") == {**entry(shipped, "rstudio"), "image": "rocker/rstudio:5"}
    assert entry(changed, "jupyterlab") == entry(shipped, "jupyterlab")


def test_tables_inside_a_shipped_entry_are_merged_key_by_key() -> None:
    settings = tables({"environments": [{"name": "rstudio", "env_vars": {"MINE": "1", "DISABLE_AUTH": "false"}}]})
    env_vars = entry(settings, "rstudio")["env_vars"]
    assert isinstance(env_vars, dict)
    assert env_vars["MINE"] == "1"
    assert env_vars["DISABLE_AUTH"] == "false"
    assert env_vars["RUNROOTLESS"] == "false"


def test_another_name_adds_an_entry_behind_those_that_ship(written: Written) -> None:
    path = written(
        """
        [[environments]]
        name = "vscode"
        title = "VS Code"
        image = "codercom/code-server:4"
        port = 8080
        home = "/home/coder"
        [environments.offer]
        memory = ["4g", "2g", "2g"]
        """
    )
    settings = load_settings(path, variables={})
    assert [one.name for one in settings.environments] == ["rstudio", "jupyterlab", "vscode"]
    assert settings.environments[2].offer.memory == (2 * GB, 4 * GB), "ascending, each once"
    assert settings.environments[2].health_path == "/"


def test_an_entry_can_be_switched_off() -> None:
    settings = tables({"environments": [{"name": "jupyterlab", "enabled": False}]})
    assert [(one.name, one.enabled) for one in settings.environments] == [("rstudio", True), ("jupyterlab", False)]


def test_the_catalogue_can_come_from_a_variable(written: Written) -> None:
    value = json.dumps([{"name": "jupyterlab", "enabled": False}])
    settings = load_settings(written(""), variables={"LAUNCHPAD_ENVIRONMENTS": value})
    assert [one.enabled for one in settings.environments] == [True, False]


def test_two_entries_of_one_name_are_refused(written: Written) -> None:
    text = "[[environments]]\nname = 'rstudio'\n[[environments]]\nname = 'rstudio'"
    assert mistakes(written(text)) == ["launchpad.toml, line 1: environments: two environments are named “rstudio”"]


OWN = """[[environments]]
name = "own"
title = "Own"
image = "own:1"
port = 80
home = "/home/own"
"""


@pytest.mark.parametrize(
    ("more", "line", "said"),
    [
        ("user = 'root'", 7, "user: write uid:gid as numbers, or {uid} for the owner's"),
        ("health_path = 'x'", 7, "health_path: write a path that begins with / or {root_path}"),
        ("start_path = 'x'", 7, "start_path: write an absolute path, beginning with /"),
        ("capabilities = ['sys_admin']", 7, "capabilities[0]: write it like CHOWN, without CAP_"),
        ("prefix = 'drop'", 7, "prefix: Input should be 'keep' or 'strip'"),
        ("pids_limit = 1", 7, "pids_limit: Input should be greater than or equal to 16"),
        ("imaeg = 'y'", 7, "imaeg: there is no such setting; did you mean image?"),
        (
            "[environments.offer]\nmemory = ['8 x']",
            8,
            "offer.memory[0]: “8 x” is not a size; write it like 512m, 8g or 1.5t",
        ),
        ("[environments.offer]\nday = [1]", 8, "offer.day: there is no such setting; did you mean days?"),
        ("[environments.env_vars]\nA = 1", 8, "env_vars.A: Input should be a valid string"),
        ("[environments.request_headers]\nX-A = 1", 8, "request_headers.X-A: Input should be a valid string"),
        (
            "[environments.request_headers]\nX_A = 'a'",
            8,
            "request_headers.X_A: a header's name is made of letters, digits and hyphens",
        ),
    ],
)
def test_a_mistake_in_an_entry_names_the_entry_and_its_line(written: Written, more: str, line: int, said: str) -> None:
    """Lines are counted in the file, although the entries that ship come before it."""
    assert mistakes(written(OWN + more)) == [f"launchpad.toml, line {line}: environments.own.{said}"]


@pytest.mark.parametrize("wrong", ["-1", "true", "'some'", "[]", "['']", "['0,1']", "[0]", "1.5"])
def test_gpus_are_all_a_number_or_ids(written: Written, wrong: str) -> None:
    (told,) = mistakes(written(f"{OWN}gpus = {wrong}"))
    assert told.startswith('launchpad.toml, line 7: environments.own.gpus: write "all", how many, or a list of ids')
    for text, right in (("'all'", "all"), ("0", 0), ("2", 2), ("['0', 'GPU-3f2a']", ("0", "GPU-3f2a"))):
        assert load_settings(written(f"{OWN}gpus = {text}"), variables={}).environments[2].gpus == right


def test_a_key_that_an_entry_lacks_is_named_at_its_table(written: Written) -> None:
    text = "[[environments]]\nname = 'rstudio'\n" + OWN.replace("port = 80\n", "")
    assert mistakes(written(text)) == ["launchpad.toml, line 3: environments.own.port: this setting is required"]


@pytest.mark.parametrize(
    ("name", "said"),
    [("R Studio", "lower-case letters"), ("-x", "lower-case letters"), ("x" * 32, "1 to 31"), ("x\n", "lower-case")],
)
def test_an_entrys_name_fits_urls_and_labels(name: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        tables({"environments": [{"name": name, "title": "X", "image": "x:1", "port": 1, "home": "/h"}]})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("environments = 3", "line 1: environments: write a list, in [ ]"),
        ("environments = [3]", "line 1: environments[0]: this is a table; write its keys below a header in [ ]"),
        ("[[environments]]\nenabled = false", "line 1: environments[2].name: this setting is required"),
    ],
)
def test_a_catalogue_of_another_shape_is_refused(written: Written, text: str, said: str) -> None:
    assert mistakes(written(text))[0] == f"launchpad.toml, {said}"


# -- what this version does not have -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("engine", "runtime", "kubernetes")],
)
def test_what_is_not_in_this_version_is_refused_at_the_start_and_not_ignored(
    tmp_path: Path, section: str, key: str, value: str
) -> None:
    with pytest.raises(SettingsError, match=rf"^{section}\.{key}: “{value}” is not supported in this version"):
        build_platform(tables({"state_dir": tmp_path, section: {key: value}}))


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Singapore", "Etc/UTC"])
def test_a_time_zone_by_its_name(zone: str) -> None:
    assert tables({"images": {"time_zone": zone}}).images.zone == zone


@pytest.mark.parametrize("zone", ["Berlin", "../etc/passwd", "/etc/localtime", "Europe/Nowhere", ""])
def test_what_is_no_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(SettingsError, match="time_zone"):
        tables({"images": {"time_zone": zone}})


def test_the_servers_own_time_zone_is_the_default(tmp_path: Path) -> None:
    """What /etc/localtime leads to; where it is a copy, what /etc/timezone says; else UTC."""
    link, file = tmp_path / "localtime", tmp_path / "timezone"
    assert server_zone(file, link) == "Etc/UTC"
    file.write_text("Asia/Tokyo\n")
    assert server_zone(file, link) == "Asia/Tokyo"
    link.symlink_to("/usr/share/zoneinfo/Europe/Berlin")
    assert server_zone(file, link) == "Europe/Berlin"
    file.write_text("no zone\n")
    link.unlink()
    assert server_zone(file, link) == "Etc/UTC"


@pytest.mark.parametrize("mirror", ["cran.example.org", "ftp://x", "https://x/'; quit()", "https://{token}"])
def test_what_is_no_mirror_is_refused(mirror: str) -> None:
    with pytest.raises(SettingsError, match="cran_mirror"):
        tables({"images": {"cran_mirror": mirror}})


@pytest.mark.parametrize(
    ("labs", "said"),
    [
        ([{"lab": "A", "max_cpus": 1}, {"lab": "A", "max_cpus": 2}], "names a lab twice"),
        ([{"lab": "A", "guaranteed_memory": "8g", "max_memory": "4g"}], "the maximum of memory is below"),
        ([{"lab": "A", "guaranteed_memory": "8g"}, {"lab": "B", "guaranteed_memory": "9g"}], "would be guaranteed in"),
    ],
)
def test_capacity_by_lab_that_cannot_be_kept_is_refused(labs: list[dict[str, object]], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        tables({"capacity": {"memory": "16g"}, "lab_capacity": labs})


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ([{"action": "stop"}], "the rule for everyone is"),
        ([{"environment": "x", "action": "stop"}], "there is no environment"),
        ([{"lab": "A", "user": "a@b.org", "action": "stop"}], "a rule for one person is about no lab"),
        ([{"user": "ada", "action": "stop"}], "give an e-mail address"),
        ([{"lab": "A"}, {"lab": " A "}], "two rules for the lab A"),
    ],
)
def test_idle_rules_that_nobody_could_follow_are_refused(rules: list[dict[str, object]], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        tables({"idle_rules": rules})


def test_idle_rules_of_the_settings_are_off_by_default_and_apply_by_their_scope() -> None:
    assert not tables({}).idle_policy.is_on
    rules = [{"lab": "Genomics", "environment": "rstudio", "action": "freeze", "idle_minutes": 60}]
    policy = tables({"idle": {"action": "stop"}, "idle_rules": rules}).idle_policy
    assert policy.rule_for("rstudio", "Genomics", "a@b.org")[1] == IdleRule(IdleAction.FREEZE, 60)
    assert policy.rule_for("jupyterlab", "Genomics", "a@b.org")[1] == IdleRule(IdleAction.STOP, 240)
