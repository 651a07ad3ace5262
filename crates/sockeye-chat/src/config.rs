//! The settings: flags, environment and a TOML file, in this order of precedence.
//! Does not know what they are for beyond what `--help` tells.

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::error::ErrorKind;
use clap::{ArgAction, Command, CommandFactory, FromArgMatches, Parser};

const YEAR_SECONDS: u64 = 366 * 24 * 3600;

/// A chat server: accounts, rooms, history and a web page in one binary.
///
/// Every setting can be a flag, an environment variable, or a key of the TOML file that --config
/// names (the flag's name without dashes in front); a flag wins over the environment, and that
/// over the file. A variable that is empty counts as one that is not set.
#[derive(Clone, Debug, Parser)]
#[command(version, allow_negative_numbers = true)]
pub struct Config {
    /// TOML file with settings (none by default)
    #[arg(long, env = "SOCKEYE_CHAT_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, env = "SOCKEYE_CHAT_LISTEN", value_name = "ADDRESS:PORT",
          default_value = "127.0.0.1:3001", value_parser = listen)]
    pub listen: SocketAddr,
    /// Folder of all data; made, for its owner alone, if it is missing
    #[arg(long, env = "SOCKEYE_CHAT_DATA_DIR", value_name = "FOLDER", default_value = "data")]
    pub data_dir: PathBuf,
    /// Origins of other sites' pages that may connect to Socket.IO, separated by commas (none by
    /// default)
    #[arg(long, env = "SOCKEYE_CHAT_CORS_ORIGINS", value_name = "ORIGINS", value_delimiter = ',',
          value_parser = origin)]
    pub cors_origins: Vec<String>,
    /// Addresses of proxies in front, separated by commas (none by default): what they add to
    /// X-Forwarded-For is the address whose sign-in attempts are counted
    #[arg(long, env = "SOCKEYE_CHAT_TRUSTED_PROXIES", value_name = "ADDRESSES",
          value_delimiter = ',', value_parser = address)]
    pub trusted_proxies: Vec<IpAddr>,
    /// Send the sign-in cookie over HTTPS only (true or false); set it behind a proxy that ends
    /// TLS
    #[arg(long, env = "SOCKEYE_CHAT_COOKIE_SECURE", value_name = "BOOLEAN", default_value = "false",
          num_args = 0..=1, require_equals = true, default_missing_value = "true",
          action = ArgAction::Set, value_parser = boolean)]
    pub cookie_secure: bool,
    /// Lifetime of an access token, in seconds (15 minutes)
    #[arg(long, env = "SOCKEYE_CHAT_ACCESS_TOKEN_SECONDS", value_name = "SECONDS",
          default_value_t = 900, value_parser = whole::<u64>(1, YEAR_SECONDS))]
    pub access_token_seconds: u64,
    /// Lifetime of a sign-in that is not used, in seconds (30 days)
    #[arg(long, env = "SOCKEYE_CHAT_REFRESH_TOKEN_SECONDS", value_name = "SECONDS",
          default_value_t = 2_592_000, value_parser = whole::<u64>(1, 10 * YEAR_SECONDS))]
    pub refresh_token_seconds: u64,
    /// Sign-in attempts and registrations per minute, for each name and for each address
    #[arg(long, env = "SOCKEYE_CHAT_SIGN_INS_PER_MINUTE", value_name = "COUNT",
          default_value_t = 30, value_parser = whole::<u32>(1, 1_000_000))]
    pub sign_ins_per_minute: u32,
    /// Longest message, in characters
    #[arg(long, env = "SOCKEYE_CHAT_TEXT_CHARACTERS_MAX", value_name = "CHARACTERS",
          default_value_t = 4000, value_parser = whole::<usize>(1, 100_000))]
    pub text_characters_max: usize,
    /// Longest name of a room, in characters
    #[arg(long, env = "SOCKEYE_CHAT_ROOM_CHARACTERS_MAX", value_name = "CHARACTERS",
          default_value_t = 64, value_parser = whole::<usize>(1, 1000))]
    pub room_characters_max: usize,
    /// Rooms that one connection may be in
    #[arg(long, env = "SOCKEYE_CHAT_ROOMS_MAX", value_name = "COUNT",
          default_value_t = 50, value_parser = whole::<usize>(1, 10_000))]
    pub rooms_max: usize,
    /// Messages per second and user, with a burst of five times that
    #[arg(long, env = "SOCKEYE_CHAT_MESSAGES_PER_SECOND", value_name = "COUNT",
          default_value_t = 20, value_parser = whole::<u32>(1, 1_000_000))]
    pub messages_per_second: u32,
    /// Connections, joins, typing notices and restored sessions per second and user, with a burst
    /// of five times that
    #[arg(long, env = "SOCKEYE_CHAT_EVENTS_PER_SECOND", value_name = "COUNT",
          default_value_t = 50, value_parser = whole::<u32>(1, 1_000_000))]
    pub events_per_second: u32,
    /// Messages of history that a joiner gets, within 1 MiB
    #[arg(long, env = "SOCKEYE_CHAT_HISTORY_MESSAGES", value_name = "COUNT",
          default_value_t = 50, value_parser = whole::<usize>(0, 1000))]
    pub history_messages: usize,
    /// Time in which a lost connection's rooms can be restored, in seconds (5 minutes)
    #[arg(long, env = "SOCKEYE_CHAT_RESTORE_SECONDS", value_name = "SECONDS",
          default_value_t = 300, value_parser = whole::<u64>(0, YEAR_SECONDS))]
    pub restore_seconds: u64,
    /// Address and port of metrics and health, for operators alone (none by default)
    #[arg(long, env = "SOCKEYE_CHAT_ADMIN_LISTEN", value_name = "ADDRESS:PORT",
          value_parser = listen)]
    pub admin_listen: Option<SocketAddr>,
    /// Time over which clients are sent away when the server ends, in seconds: all at once, they
    /// would come back all at once
    #[arg(long, env = "SOCKEYE_CHAT_DRAIN_SECONDS", value_name = "SECONDS",
          default_value_t = 3, value_parser = whole::<u64>(0, 3600))]
    pub drain_seconds: u64,
    /// Time that clients and handlers have after that, in seconds
    #[arg(long, env = "SOCKEYE_CHAT_SHUTDOWN_SECONDS", value_name = "SECONDS",
          default_value_t = 10, value_parser = whole::<u64>(0, 3600))]
    pub shutdown_seconds: u64,
    /// Redis that many processes share, as redis://user:password@host:port/database, of which all
    /// but the host may be left out (none by default): they are one chat then, all data are there,
    /// and the data folder is not used. In cluster mode: redis-cluster:// and some of its nodes,
    /// separated by commas
    #[arg(long, env = "SOCKEYE_CHAT_REDIS", hide_env_values = true, value_name = "URL",
          value_parser = crate::store::check_url)]
    pub redis: Option<String>,
    /// Beginning of the names of all keys and channels in Redis: another one is another chat. For
    /// a Redis in cluster mode it needs a hash tag, such as {sockeye-chat}:
    #[arg(long, env = "SOCKEYE_CHAT_REDIS_PREFIX", value_name = "TEXT",
          default_value = "sockeye-chat:", value_parser = prefix)]
    pub redis_prefix: String,
    /// Time after which the users of a process that died have left, in seconds
    #[arg(long, env = "SOCKEYE_CHAT_REDIS_LEASE_SECONDS", value_name = "SECONDS",
          default_value_t = 15, value_parser = whole::<u64>(1, 3600))]
    pub redis_lease_seconds: u64,
    /// Time that Redis may take to be connected, and to answer, in seconds: after it, what needed
    /// Redis is refused, and nothing is asked until Redis answers anew
    #[arg(long, env = "SOCKEYE_CHAT_REDIS_TIMEOUT_SECONDS", value_name = "SECONDS",
          default_value_t = 3, value_parser = whole::<u64>(1, 60))]
    pub redis_timeout_seconds: u64,
    /// Messages that Redis keeps of each room, and a few more; older ones are gone
    #[arg(long, env = "SOCKEYE_CHAT_REDIS_ROOM_MESSAGES_MAX", value_name = "COUNT",
          default_value_t = 10_000, value_parser = whole::<u64>(1000, 1_000_000_000))]
    pub redis_room_messages_max: u64,
    /// Hand requests of long-polling on to the process that has their session (true or false), by
    /// way of Redis: clients may come to any process with each. The same on all of them
    #[arg(long, env = "SOCKEYE_CHAT_FORWARD_REQUESTS", value_name = "BOOLEAN",
          default_value = "false", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = ArgAction::Set, value_parser = boolean)]
    pub forward_requests: bool,
    /// Secret of the access tokens, at least 32 bytes; without one it is made and kept in the
    /// data folder, or in Redis. Other users of the machine can see flags: prefer the environment
    #[arg(long, env = "JWT_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub jwt_secret: Option<String>,
}

impl Config {
    /// Reads the program's arguments, environment and file.
    ///
    /// # Errors
    /// A wrong value is named, with where it stands and what was expected. `--help` comes out as
    /// an error too, as clap has it.
    pub fn load(args: impl IntoIterator<Item = OsString>) -> Result<Self> {
        let args: Vec<OsString> = args.into_iter().collect();
        let mut command = Self::command();
        // Help is wanted most where the file is wrong.
        let flags = command.clone().try_get_matches_from(&args).err();
        if let Some(help) = flags.filter(|error| !error.use_stderr()) {
            return Err(help.into());
        }
        // As containers have it: what is passed on without being set comes as an empty text.
        command = command.mut_args(|arg| {
            let is_set = arg.get_env().and_then(variable).is_some();
            if is_set { arg } else { arg.env(None::<&str>) }
        });
        if let Some(path) = config_path(&args) {
            command = with_file(command, &path)?;
        }
        let matches = command.try_get_matches_from(&args).or_else(|error| {
            if matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidUtf8) {
                check_environment()?;
            }
            Err(anyhow::Error::from(error))
        })?;
        let config = Self::from_arg_matches(&matches)?;
        if config.forward_requests && config.redis.is_none() {
            bail!("forward-requests is for many processes: it needs redis as well");
        }
        Ok(config)
    }
}

/// What the file says becomes the default, which a flag or a variable overrides.
fn with_file(mut command: Command, path: &Path) -> Result<Command> {
    let place = path.display();
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the settings file {place}"))?;
    let table: toml::Table = text.parse().with_context(|| format!("{place} is not TOML"))?;
    for (key, value) in table {
        let id = key.replace('-', "_");
        let known = command.get_arguments().find(|arg| arg.get_id() == id.as_str());
        let known = known.filter(|_| !["config", "help", "version"].contains(&id.as_str()));
        let Some(known) = known else {
            bail!("{place}: there is no setting `{key}`; --help tells them");
        };
        // Elsewhere a comma is a part of the value: of a folder's name, of a list of nodes.
        let is_list = known.get_value_delimiter().is_some();
        if value.is_array() && !is_list {
            bail!("in {place}, `{key}`: expected one value");
        }
        let words = if is_list { plain(&value) } else { vec![plain(&value).join(",")] };
        if words.is_empty() {
            continue;
        }
        let whole = words.join(",");
        check(&id.replace('_', "-"), whole.as_ref())
            .with_context(|| format!("in {place}, `{key}`"))?;
        command = command.mut_arg(id, |arg| arg.default_values(words));
    }
    Ok(command)
}

/// Finds the variable that is wrong: clap names the flag alone.
fn check_environment() -> Result<()> {
    for arg in Config::command().get_arguments() {
        let (Some(name), Some(long)) = (arg.get_env(), arg.get_long()) else { continue };
        let Some(value) = variable(name) else { continue };
        check(long, &value).with_context(|| format!("in the environment, {}", name.display()))?;
    }
    Ok(())
}

/// One value by itself, so that what is wrong can be said of the place where it stands.
fn check(long: &str, value: &OsStr) -> Result<()> {
    let bare = Config::command().mut_args(|arg| arg.env(None::<&str>));
    let mut flag = OsString::from(format!("--{long}="));
    flag.push(value);
    let words = ["sockeye-chat".into(), flag];
    let Err(error) = bare.try_get_matches_from(words) else { return Ok(()) };
    let text = error.to_string();
    let sentence = text.lines().next().unwrap_or_default();
    Err(anyhow!("{}", sentence.strip_prefix("error: ").unwrap_or(sentence)))
}

fn config_path(args: &[OsString]) -> Option<PathBuf> {
    let mut words = args.iter().filter_map(|arg| arg.to_str());
    while let Some(word) = words.next() {
        match word.strip_prefix("--config") {
            Some("") => return words.next().map(PathBuf::from),
            Some(rest) if rest.starts_with('=') => return Some(PathBuf::from(&rest[1..])),
            _ => {}
        }
    }
    variable(OsStr::new("SOCKEYE_CHAT_CONFIG")).map(PathBuf::from)
}

/// A variable of the environment that says something.
fn variable(name: &OsStr) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn plain(value: &toml::Value) -> Vec<String> {
    match value {
        toml::Value::String(text) => text.split(',').map(str::to_owned).collect(),
        toml::Value::Array(list) => list.iter().flat_map(plain).collect(),
        other => vec![other.to_string()],
    }
}

/// A whole number between two others.
fn whole<T: TryFrom<u64>>(
    min: u64,
    max: u64,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse().ok().filter(|number| (min..=max).contains(number));
        let number = number.and_then(|number: u64| T::try_from(number).ok());
        number.ok_or_else(|| format!("expected a whole number from {min} to {max}"))
    }
}

fn boolean(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "expected true or false".into())
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "expected an IP address and a port, such as 127.0.0.1:3001".into())
}

fn address(text: &str) -> Result<IpAddr, String> {
    let address: Result<IpAddr, _> = text.trim().parse();
    address.map_err(|_| "expected an IP address, such as 127.0.0.1".into())
}

fn prefix(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(char::is_control) {
        return Err("expected some characters, such as sockeye-chat:".into());
    }
    Ok(text.to_owned())
}

/// As browsers send it.
fn origin(text: &str) -> Result<String, String> {
    let text = text.trim();
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match host {
        Some(host) if !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ', '*']) => {
            Ok(text.to_owned())
        }
        _ => Err("expected an origin without a path, such as https://example.com".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(args: &[&str]) -> Result<Config> {
        let words = std::iter::once("sockeye-chat").chain(args.iter().copied());
        Config::load(words.map(OsString::from))
    }

    fn with_text(text: &str, args: &[&str]) -> Result<Config> {
        static FILES: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = FILES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("sockeye-chat-{}-{number}.toml", std::process::id());
        let file = std::env::temp_dir().join(name);
        std::fs::write(&file, text).expect("written");
        let path = file.to_string_lossy().into_owned();
        let config = load(&[&["--config", path.as_str()], args].concat());
        std::fs::remove_file(file).expect("removed");
        config
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let text = "rooms-max = 7\nlisten = \"127.0.0.1:1\"\ncookie-secure = true\n";
        let config = with_text(text, &["--listen", "127.0.0.1:2"]).expect("settings");
        assert_eq!((config.rooms_max, config.listen.port()), (7, 2));
        assert!(config.cookie_secure);
        let config = with_text(text, &["--cookie-secure=false"]).expect("settings");
        assert!(!config.cookie_secure);
        assert!(load(&["--cookie-secure"]).expect("settings").cookie_secure);
    }

    #[test]
    fn requests_are_forwarded_by_way_of_redis_alone() {
        let error = load(&["--forward-requests"]).expect_err("nowhere to forward to").to_string();
        assert!(error.contains("needs redis"), "{error}");
        let config = load(&["--forward-requests", "--redis=redis://localhost"]).expect("settings");
        assert!(config.forward_requests);
    }

    #[test]
    fn lists_are_lists_everywhere() {
        assert_eq!(load(&[]).expect("settings").cors_origins, [] as [String; 0]);
        let two = ["https://a.example", "http://b.example:8080"];
        let joined = two.join(",");
        assert_eq!(load(&["--cors-origins", &joined]).expect("settings").cors_origins, two);
        for text in [format!("cors-origins = {two:?}"), format!("cors-origins = {joined:?}")] {
            assert_eq!(with_text(&text, &[]).expect("settings").cors_origins, two);
        }
        let config = with_text("trusted-proxies = [\"10.0.0.1\", \"::1\"]", &[]);
        assert_eq!(config.expect("settings").trusted_proxies.len(), 2);
    }

    #[test]
    fn a_comma_is_a_part_of_a_value_that_is_no_list() {
        let text = "data-dir = \"a,b\"\nredis = \"redis-cluster://one:1,two:2\"";
        let config = with_text(text, &[]).expect("settings");
        assert_eq!(config.data_dir, Path::new("a,b"));
        assert_eq!(config.redis.as_deref(), Some("redis-cluster://one:1,two:2"));
        let error = with_text("data-dir = [\"a\", \"b\"]", &[]).expect_err("two folders");
        assert!(error.to_string().contains("`data-dir`: expected one value"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_named_with_what_was_expected() {
        for (flag, value, expected) in [
            ("--rooms-max", "many", "a whole number from 1 to 10000"),
            ("--rooms-max", "-5", "a whole number from 1 to 10000"),
            ("--messages-per-second", "0", "a whole number from 1 to 1000000"),
            ("--listen", "localhost", "an IP address and a port, such as 127.0.0.1:3001"),
            ("--trusted-proxies", "proxy", "an IP address, such as 127.0.0.1"),
            ("--redis", "localhost", "redis://[user[:password]@]host[:port][/database]"),
            ("--redis-prefix", "\n", "some characters, such as sockeye-chat:"),
            ("--redis-timeout-seconds", "0", "a whole number from 1 to 60"),
            ("--cors-origins", "*", "an origin without a path, such as https://example.com"),
        ] {
            let error = load(&[flag, value]).expect_err(flag).to_string();
            let all = error.contains(flag) && error.contains(value) && error.contains(expected);
            assert!(all, "{error}");
        }
        for (text, words) in [
            ("rooms-mx = 7", ["there is no setting", "`rooms-mx`"]),
            ("rooms-max = 0", ["`rooms-max`", "expected a whole number from 1 to 10000"]),
            ("cookie-secure = \"maybe\"", ["`cookie-secure`", "expected true or false"]),
            ("rooms-max", ["is not TOML", ".toml"]),
        ] {
            let error = format!("{:#}", with_text(text, &[]).expect_err(text));
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
    }
}
