//! Access tokens (JWT, HS256) and the random secrets of refresh tokens and sessions.
//! Does not know accounts or HTTP.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind as JwtError;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const SECRET_BYTES_MIN: usize = 32;

/// What an access token says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// The user's id.
    pub(crate) sub: String,
    /// The user's name.
    pub(crate) username: String,
    /// When it was made, in seconds since 1970.
    pub(crate) iat: u64,
    /// When it ends, in seconds since 1970.
    pub(crate) exp: u64,
}

/// Why an access token is no good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenError {
    /// It was good once.
    Expired,
    /// It is not one of ours.
    Invalid,
}

/// Makes and reads access tokens.
pub(crate) struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    lifetime_seconds: u64,
}

impl Tokens {
    /// Tokens under this secret, or under one that is kept in the folder (made if there is none,
    /// readable by its owner alone).
    ///
    /// # Errors
    /// The secret is too short, or cannot be kept.
    pub(crate) fn new(secret: Option<&str>, folder: &Path, lifetime_seconds: u64) -> Result<Self> {
        if let Some(secret) = secret {
            return Self::under(secret, lifetime_seconds);
        }
        let file = folder.join("jwt-secret");
        let secret = kept_secret(&file)?;
        Self::from(&secret, &format!("the secret in {}", file.display()), lifetime_seconds)
    }

    /// Tokens under this secret.
    ///
    /// # Errors
    /// The secret is too short.
    pub(crate) fn under(secret: &str, lifetime_seconds: u64) -> Result<Self> {
        Self::from(secret, "the secret (--jwt-secret, JWT_SECRET)", lifetime_seconds)
    }

    fn from(secret: &str, place: &str, lifetime_seconds: u64) -> Result<Self> {
        let bytes = secret.len();
        ensure!(
            bytes >= SECRET_BYTES_MIN,
            "{place} has {bytes} bytes; expected at least {SECRET_BYTES_MIN}"
        );
        Ok(Self {
            encoding: EncodingKey::from_secret(secret.as_bytes()),
            decoding: DecodingKey::from_secret(secret.as_bytes()),
            lifetime_seconds,
        })
    }

    /// A token, and when it ends in seconds since 1970.
    ///
    /// # Errors
    /// It cannot be signed.
    pub(crate) fn issue(&self, user_id: &str, username: &str) -> Result<(String, u64)> {
        let iat = now_ms() / 1000;
        let exp = iat + self.lifetime_seconds;
        let claims = Claims { sub: user_id.into(), username: username.into(), iat, exp };
        let header = Header::new(Algorithm::HS256);
        Ok((jsonwebtoken::encode(&header, &claims, &self.encoding)?, exp))
    }

    /// What a token says.
    ///
    /// # Errors
    /// It has expired, or is not ours.
    pub(crate) fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        match jsonwebtoken::decode(token, &self.decoding, &validation) {
            Ok(token) => Ok(token.claims),
            Err(error) if matches!(error.kind(), JwtError::ExpiredSignature) => {
                Err(TokenError::Expired)
            }
            Err(_) => Err(TokenError::Invalid),
        }
    }
}

fn kept_secret(path: &Path) -> Result<String> {
    match fs::read_to_string(path) {
        Ok(secret) => {
            keep_to_owner(path);
            return Ok(secret.trim_end().to_owned());
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
    let secret = random()?;
    keep(&secret, path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(secret)
}

/// A copy of the folder may have forgotten whose the secret is.
fn keep_to_owner(path: &Path) {
    let is_open = |file: fs::Metadata| file.permissions().mode() & 0o077 != 0;
    if fs::metadata(path).is_ok_and(is_open)
        && let Err(error) = fs::set_permissions(path, fs::Permissions::from_mode(0o600))
    {
        tracing::warn!(%error, "others than its owner can read {}", path.display());
    }
}

/// Under another name first: a crash must not leave half a secret.
fn keep(secret: &str, path: &Path) -> std::io::Result<()> {
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(secret.as_bytes())?;
    file.sync_all()?;
    fs::rename(new, path)?;
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// 256 random bits, as text.
///
/// # Errors
/// The system has no randomness.
pub(crate) fn random() -> Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// What is kept of a secret that is not needed again.
pub(crate) fn hash(secret: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(secret.as_bytes()))
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_again_until_it_ends() {
        let secret = "0123456789abcdef0123456789abcdef";
        let folder = std::env::temp_dir();
        let tokens = Tokens::new(Some(secret), &folder, 60).expect("a good secret");
        let (token, _) = tokens.issue("1", "ann").expect("signed");
        assert_eq!(tokens.verify(&token).expect("good").username, "ann");
        assert_eq!(tokens.verify("x").expect_err("no token"), TokenError::Invalid);
        let other = Tokens::new(Some(&secret.replace('0', "x")), &folder, 60).expect("good");
        assert_eq!(other.verify(&token).expect_err("another secret"), TokenError::Invalid);
        let claims = Claims { sub: "1".into(), username: "ann".into(), iat: 1, exp: 2 };
        let old = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &tokens.encoding);
        assert_eq!(tokens.verify(&old.expect("signed")).expect_err("old"), TokenError::Expired);
        assert!(Tokens::new(Some("short"), &folder, 60).is_err());
    }
}
