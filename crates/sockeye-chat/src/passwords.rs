//! Passwords: which are the same, and what is kept of them.
//! Does not know whose they are.

use anyhow::{Result, anyhow};
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Argon2, PasswordHash};
use icu_normalizer::ComposingNormalizerBorrowed;

/// A password as it is counted and hashed: the same however a keyboard composes it.
pub(crate) fn prepare(typed: &str) -> String {
    // RFC 8265 §4.2.2 (OpaqueString): any space is U+0020, and the whole is composed (NFC); case
    // and width stay.
    let spaced: String = typed.chars().map(|c| if is_space(c) { ' ' } else { c }).collect();
    ComposingNormalizerBorrowed::new_nfc().normalize(&spaced).into_owned()
}

/// Unicode's category Zs.
fn is_space(c: char) -> bool {
    matches!(
        c,
        ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'
            ..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}'
    )
}

/// What is kept of a password: argon2id with a salt of its own.
///
/// # Errors
/// No randomness.
pub(crate) fn hash_password(prepared: &str) -> Result<String> {
    let hash = Argon2::default().hash_password(prepared.as_bytes());
    Ok(hash.map_err(|error| anyhow!("cannot hash: {error}"))?.to_string())
}

/// Whether a hash is that of this password. How long it takes depends on what was typed alone.
pub(crate) fn is_password(typed: &str, hash: &str) -> bool {
    let Ok(hash) = PasswordHash::new(hash) else { return false };
    let is = |text: &str| Argon2::default().verify_password(text.as_bytes(), &hash).is_ok();
    let prepared = prepare(typed);
    // Hashes from before passwords were prepared are of what was typed then.
    is(&prepared) || (prepared != typed && is(typed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_the_same_is_the_same_password() {
        let hash = hash_password(&prepare("caf\u{e9} \u{c5}ngstr\u{f6}m")).expect("hashed");
        for typed in [
            "caf\u{e9} \u{c5}ngstr\u{f6}m",
            "cafe\u{301} A\u{30a}ngstro\u{308}m",
            "caf\u{e9}\u{a0}\u{212b}ngstr\u{f6}m",
            "cafe\u{301}\u{3000}\u{c5}ngstro\u{308}m",
        ] {
            assert!(is_password(typed, &hash), "{}", typed.escape_unicode());
        }
        for typed in [
            "cafe \u{c5}ngstr\u{f6}m",
            "CAF\u{c9} \u{c5}NGSTR\u{d6}M",
            "caf\u{e9}\u{c5}ngstr\u{f6}m",
        ] {
            assert!(!is_password(typed, &hash), "{}", typed.escape_unicode());
        }
        // Full width is another key on the keyboard (RFC 8265 §4.2.2).
        assert!(!is_password("\u{ff41}bcdefgh", &hash_password("abcdefgh").expect("hashed")));
    }

    #[test]
    fn hashes_from_before_are_of_what_was_typed() {
        for typed in ["caf\u{e9} 12345", "cafe\u{301} 12345", "caf\u{e9}\u{a0}12345"] {
            let old = hash_password(typed).expect("hashed");
            assert!(is_password(typed, &old), "{}", typed.escape_unicode());
        }
        let old = hash_password("caf\u{e9} 12345").expect("hashed");
        assert!(is_password("cafe\u{301} 12345", &old), "it was composed");
    }
}
