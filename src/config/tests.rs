//! Tests of the configuration: the reference file, places of errors, the rules of exposure, secrets.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;

const KEY: &str = "0123456789abcdef";

fn parse(text: &str) -> Result<Config, String> {
    parse_with(text, &Flags::default())
}

fn parse_with(text: &str, flags: &Flags) -> Result<Config, String> {
    Config::parse_with(text, Path::new("h.toml"), flags).map_err(|error| error.to_string())
}

/// The reference with every commented key in effect.
fn reference() -> String {
    let text = include_str!("../../headwater.toml");
    let uncomment = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_alphabetic()) => rest.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(uncomment).collect::<Vec<_>>().join("\n")
}

fn keys(text: &str) -> BTreeSet<String> {
    fn walk(table: &toml::Table, prefix: &str, into: &mut BTreeSet<String>) {
        for (key, value) in table {
            match value {
                toml::Value::Table(inner) => walk(inner, &format!("{prefix}{key}."), into),
                _ => {
                    into.insert(format!("{prefix}{key}"));
                }
            }
        }
    }
    let mut all = BTreeSet::new();
    walk(&text.parse().unwrap(), "", &mut all);
    all
}

#[test]
fn reference_is_valid_as_shipped_and_uncommented_and_equals_the_defaults() {
    let shipped = include_str!("../../headwater.toml");
    assert_eq!(parse(shipped).unwrap(), Config::default());
    assert_eq!(parse(&reference()).unwrap(), Config::default());
}

#[test]
fn reference_names_every_key() {
    assert_eq!(keys(&reference()), keys(&Config::default().to_toml()));
}

#[test]
fn effective_configuration_reads_back() {
    let mut config = Config { shards: Count::Exactly(3.try_into().unwrap()), ..Config::default() };
    config.http.addr.push("[::1]:80".parse().unwrap());
    assert_eq!(parse(&config.to_toml()).unwrap(), config);
    assert_eq!(parse("").unwrap(), Config::default());
}

#[test]
fn errors_name_the_line() {
    for (text, expected) in [
        ("open = 1", "h.toml:1: invalid type"),
        ("\n\nopne = true", "h.toml:3: unknown field `opne`"),
        ("[http]\nadr = []", "h.toml:2: unknown field `adr`"),
        ("[nothing]\n", "h.toml:1: unknown field `nothing`"),
        ("open = true\nopen = true", "h.toml:2: "),
        ("[http]\naddr = [\n  \"127.0.0.1\"\n]", "h.toml:3: invalid socket address"),
        ("\nshards = 0", "h.toml:2: invalid value: integer `0`, expected \"auto\" or a number"),
        ("shards = \"all\"", "h.toml:1: invalid value: string \"all\""),
        ("shards = 100000", "h.toml:1: shards: 100000 is not between 1 and 256"),
        ("[media]\nsegment_duration_ms = 1000\n\npart_duration_ms = 2000", "h.toml:4: media.part"),
        ("[media]\nwindow_segments = 12", "h.toml:1: media.keep_segments: 11 is not between 13"),
        ("[websocket]\nping_interval_ms = 60000", "h.toml:1: websocket.idle_timeout_ms: 60000"),
        ("[channels]\nbatch_window_ms = 60000", "h.toml:2: channels.batch_window_ms: 60000 is not"),
        ("[tcp]\ncongestion = \"Cubic!\"", "h.toml:2: tcp.congestion"),
        (
            "[memory]\nbudget_mib = 0",
            "h.toml:2: invalid value: integer `0`, expected \"auto\" or a",
        ),
        ("[memory]\n\nbudget_mib = 4", "h.toml:3: memory.budget_mib: 4 is not between 16 and"),
        ("[memory]\nhistory_percent = 101", "h.toml:2: memory.history_percent: 101 is not between"),
        (
            "[memory]\nmedia_percent = 60\nslow_readers_percent = 10",
            "h.toml:2: memory.media_percent: 60 makes 140 percent",
        ),
        ("[memory]\nconnections_percent = 0", "h.toml:2: memory.connections_percent: is 0"),
        ("[memory]\nconnections_percent = 256", "h.toml:2: invalid value: integer `256`"),
        ("[log]\nlevel = \"loud\"", "h.toml:2: unknown variant `loud`"),
        ("apps = []", "h.toml:1: apps: is empty"),
        ("apps = [\"live\", \"live\"]", "h.toml:1: apps: live is listed twice"),
        ("[http]\naddr = [\"127.0.0.1:1935\"]", "h.toml: rtmp.addr: 127.0.0.1:1935 is also"),
    ] {
        let error = parse(text).expect_err(text);
        assert!(error.starts_with(expected), "{text:?} gave {error:?}");
    }
    let missing = Config::load(Path::new("no/such/file.toml")).unwrap_err().to_string();
    assert!(missing.starts_with("no/such/file.toml: cannot be read"), "{missing}");
}

#[test]
fn apps_are_names_and_no_routes() {
    for good in ["live", "a", "_x", "tv.two", "A-1"] {
        assert!(parse(&format!("apps = [{good:?}]")).is_ok(), "{good}");
    }
    for route in [
        "ws",
        "sse",
        "pub",
        "stream",
        "poll",
        "api",
        "history",
        "presence",
        "metrics",
        "healthz",
        "readyz",
        "examples",
        "connection",
        "ticket",
    ] {
        let error = parse(&format!("apps = [{route:?}]")).unwrap_err();
        assert!(error.starts_with("h.toml:1: ") && error.contains("route"), "{error}");
    }
    let long = "x".repeat(129);
    for bad in ["", ".hidden", "a..b", "a/b", "a b", "x.flv", "y.m3u8", "z.mpd", "caf\u{e9}", &long]
    {
        assert!(parse(&format!("apps = [{bad:?}]")).is_err(), "{bad}");
    }
}

#[test]
fn other_addresses_have_to_be_asked_for() {
    let everywhere = "[http]\naddr = [\"0.0.0.0:80\"]\n";
    let error = parse(everywhere).unwrap_err();
    assert!(
        error.starts_with("h.toml:2: http.addr: 0.0.0.0:80") && error.contains("[auth]"),
        "{error}"
    );
    let error = parse(&format!("open = true\n{everywhere}")).unwrap_err();
    assert!(error.contains("plaintext = true"), "{error}");
    assert!(parse(&format!("open = true\nplaintext = true\n{everywhere}")).is_ok());

    let keyed = format!("[[auth.publish]]\nstream = \"live/*\"\nkey = {KEY:?}\n");
    let error = parse(&format!("{everywhere}{keyed}")).unwrap_err();
    assert!(error.contains("plaintext"), "{error}");
    assert!(parse(&format!("plaintext = true\n{everywhere}{keyed}")).is_ok());

    for local in ["127.8.9.1:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
        assert!(parse(&format!("[http]\naddr = [{local:?}]")).is_ok(), "{local}");
    }
    for other in ["192.168.1.2:80", "[::]:80", "[::ffff:10.0.0.1]:80"] {
        assert!(parse(&format!("[http]\naddr = [{other:?}]")).is_err(), "{other}");
    }
}

#[test]
fn rtmp_from_elsewhere_needs_a_key_also_when_open() {
    let open = "open = true\nplaintext = true\n[rtmp]\naddr = [\"0.0.0.0:1935\"]\n";
    let error = parse(open).unwrap_err();
    assert!(
        error.starts_with("h.toml:4: rtmp.addr") && error.contains("[[auth.publish]]"),
        "{error}"
    );
    let api_key_only = format!("{open}[auth]\napi_keys = [{KEY:?}]");
    assert!(parse(&api_key_only).is_err());
    assert!(parse(&format!("{open}[[auth.publish]]\nstream = \"live/*\"\nkey = {KEY:?}")).is_ok());
}

#[test]
fn flags_override_the_file_and_are_blamed_for_what_they_say() {
    let flags = Flags {
        http: Some("127.0.0.1:9".parse().unwrap()),
        rtmp: Some("127.0.0.1:10".parse().unwrap()),
        shards: Some(2.try_into().unwrap()),
        log: Some(LogLevel::Debug),
    };
    let config = parse_with("shards = 1\n[http]\naddr = [\"0.0.0.0:80\"]", &flags).unwrap();
    assert_eq!(config.http.addr, [flags.http.unwrap()]);
    assert_eq!(config.rtmp.addr, [flags.rtmp.unwrap()]);
    assert_eq!((config.shards.or(7), config.log.level), (2, LogLevel::Debug));

    let exposed = Flags { http: Some("0.0.0.0:80".parse().unwrap()), ..Flags::default() };
    let error = parse_with("", &exposed).unwrap_err();
    assert!(error.starts_with("--http: http.addr: 0.0.0.0:80"), "{error}");
    let many = Flags { shards: Some(9999.try_into().unwrap()), ..Flags::default() };
    assert!(parse_with("", &many).unwrap_err().starts_with("--shards: "));
}

#[test]
fn keys_open_their_streams_only() {
    let text = format!(
        "[[auth.publish]]\nstream = \"live/cam\"\nkey = {KEY:?}\n\
         [[auth.publish]]\nstream = \"live/stage-*\"\nkey = \"another-key-of-20-ch\"\n"
    );
    let auth = parse(&text).unwrap().auth;
    let local = "127.0.0.1".parse().unwrap();
    assert!(auth.may_publish(local, "live", "cam", Some(KEY)));
    assert!(auth.may_publish(local, "live", "cam@720p", Some(KEY)));
    assert!(!auth.may_publish(local, "live", "cam", None));
    assert!(!auth.may_publish(local, "live", "cam", Some("0123456789abcdeF")));
    assert!(!auth.may_publish(local, "live", "cam2", Some(KEY)));
    assert!(!auth.may_publish(local, "other", "cam", Some(KEY)));
    assert!(auth.may_publish(local, "live", "stage-left", Some("another-key-of-20-ch")));
    assert!(!auth.may_publish(local, "live", "stage-left", Some(KEY)));

    let nobody = Auth::default();
    assert!(nobody.may_publish(local, "live", "cam", None));
    assert!(nobody.may_publish("::ffff:127.0.0.1".parse().unwrap(), "live", "cam", None));
    assert!(!nobody.may_publish("10.0.0.1".parse().unwrap(), "live", "cam", None));
}

#[test]
fn patterns_and_keys_are_checked_where_they_stand() {
    for bad in ["cam", "live/", "live/a/b", "*/cam", "/cam", "live/**", "live/.x"] {
        let text = format!("[[auth.publish]]\nkey = {KEY:?}\nstream = {bad:?}");
        let error = parse(&text).expect_err(bad);
        assert!(error.starts_with("h.toml:3: ") && error.contains("app/name"), "{error}");
    }
    let error = parse(&format!("[[auth.publish]]\nkey = {KEY:?}\nstream = \"tv/x\"")).unwrap_err();
    assert!(error.contains("none of the configured apps"), "{error}");
    for bad in ["short", "has space in the middle", "percent%20escapes-not-ok"] {
        let error = parse(&format!("[auth]\napi_keys = [{bad:?}]")).expect_err(bad);
        assert!(error.starts_with("h.toml:2: a key") && !error.contains(bad), "{error}");
    }
}

#[test]
fn secrets_are_shown_to_nobody() {
    let text = format!(
        "[auth]\napi_keys = [{KEY:?}]\n[[auth.publish]]\nstream = \"live/*\"\nkey = {KEY:?}\n"
    );
    let config = parse(&text).unwrap();
    assert!(config.auth.is_api_key(KEY) && !config.auth.is_api_key("0123456789abcdeg"));
    for shown in [format!("{config:?}"), format!("{config:#?}"), config.to_toml()] {
        assert!(shown.contains("(hidden)") && !shown.contains(KEY), "{shown}");
    }
}

#[test]
fn hosts_and_origins() {
    let config = parse("hosts = [\"Example.ORG\", \"10.0.0.1\", \"[::1]\"]").unwrap();
    assert_eq!(config.hosts[0].as_str(), "example.org");
    for bad in ["", "a:80", "http://a", "a/b", "a b", "a..b", "[::1", "::1"] {
        assert!(parse(&format!("hosts = [{bad:?}]")).is_err(), "{bad}");
    }
    for good in
        ["https://example.org", "http://localhost:3000", "http://[::1]:3000", "http://[::1]"]
    {
        assert!(parse(&format!("origins = [{good:?}]")).is_ok(), "{good}");
    }
    for bad in [
        "*",
        "example.org",
        "https://",
        "https://a/",
        "https://a:443",
        "http://a:80",
        "http://a:0",
        "http://a:+1",
    ] {
        assert!(parse(&format!("origins = [{bad:?}]")).is_err(), "{bad}");
    }
}

#[test]
fn a_server_nobody_can_address_is_warned_about() {
    assert!(Config::default().warnings().is_empty());
    let text = "open = true\nplaintext = true\n[http]\naddr = [\"0.0.0.0:80\"]";
    assert_eq!(parse(text).unwrap().warnings().len(), 1);
    assert!(parse(&format!("hosts = [\"a\"]\n{text}")).unwrap().warnings().is_empty());
    assert_eq!(parse("[http]\naddr = []\n[rtmp]\naddr = []").unwrap().warnings().len(), 1);
}

#[test]
fn proxies_are_ranges_of_addresses() {
    let config = parse(
        "[http]\nproxies = [\"10.0.0.0/8\", \"192.0.2.7\", \"::1/128\", \"2001:db8::/32\", \"0.0.0.0/32\", \"unix\"]",
    )
    .unwrap();
    let covers = |text: &str| {
        let address = text.parse().unwrap();
        config.http.proxies.iter().any(|proxy| proxy.covers(address))
    };
    for inside in
        ["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3", "192.0.2.7", "::1", "2001:db8:ffff::"]
    {
        assert!(covers(inside), "{inside}");
    }
    for outside in [
        "11.0.0.0",
        "9.255.255.255",
        "192.0.2.6",
        "127.0.0.1",
        "::2",
        "2001:db9::",
        "::",
        "::10.0.0.1",
    ] {
        assert!(!covers(outside), "{outside}");
    }
    assert!(config.http.trusts_unix());
    assert!(!Http::default().trusts_unix());
    let everyone = parse("[http]\nproxies = [\"0.0.0.0/0\"]").unwrap();
    assert!(everyone.http.proxies[0].covers("203.0.113.9".parse().unwrap()));
    assert!(!everyone.http.proxies[0].covers("2001:db8::1".parse().unwrap()));
    for wrong in [
        "",
        "localhost",
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "10.0.0.0/",
        "10.0.0.0/8/8",
        "10.0.0/8",
        "::/129",
        "10.0.0.1/8",
        "2001:db8::1/64",
        "::ffff:10.0.0.1",
        "UNIX",
        "unix:/run/x",
        "[::1]",
        "10.0.0.1:80",
        "10.0.0.0/+8",
    ] {
        let text = format!("shards = 1\n[http]\nproxies = [{wrong:?}]");
        let error = parse(&text).unwrap_err();
        assert!(error.starts_with("h.toml:3:"), "{wrong}: {error}");
    }
    assert_eq!(
        parse("[http]\nproxy_protocol = true").unwrap_err(),
        "h.toml:2: http.proxy_protocol: nobody could connect: name the proxies that send the header in http.proxies"
    );
    assert!(parse("[http]\nproxies = [\"unix\"]\n[rtmp]\nproxy_protocol = true").is_ok());
}

#[test]
fn paths_and_their_modes() {
    let http = |lines: &str| parse(&format!("[http]\n{lines}")).map(|config| config.http);
    let one = http("unix = \"/run/h.sock\"").unwrap();
    assert_eq!(one, http("unix = [\"/run/h.sock\"]").unwrap());
    assert_eq!((one.unix.len(), one.unix_mode.bits()), (1, 0o660));
    assert_eq!(http("unix_mode = \"0600\"").unwrap().unix_mode.bits(), 0o600);
    let longest = format!("/{}", "x".repeat(106));
    assert!(http(&format!("unix = {longest:?}")).is_ok());
    for wrong in [
        "unix = \"\"".to_owned(),
        "unix = \"h.sock\"".to_owned(),
        "unix = \"/run/\"".to_owned(),
        "unix = 1".to_owned(),
        "unix = [\"/a\", \"/a\"]".to_owned(),
        format!("unix = \"{longest}x\""),
        "unix_mode = \"66\"".to_owned(),
        "unix_mode = \"1660\"".to_owned(),
        "unix_mode = \"668\"".to_owned(),
        "unix_mode = \"+66\"".to_owned(),
        "unix_mode = 660".to_owned(),
    ] {
        let error = http(&wrong).unwrap_err();
        assert!(error.starts_with("h.toml:2:"), "{wrong}: {error}");
    }
}
