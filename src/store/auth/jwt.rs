//! Signed tokens: a member believes what they say because of their signature, and need not remember them.

use std::time::Duration;

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::bad_token::BadToken;
use super::permit::Identity;

/// The content of a token.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    username: String,
    revision: f64,
    /// Seconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<f64>,
    #[serde(skip_serializing)]
    nbf: Option<f64>,
}

/// The same, as a signer writes it.
#[derive(Serialize)]
struct Signed<'a> {
    exp: u64,
    revision: u64,
    username: &'a str,
}

/// Signs tokens, or only checks them.
#[derive(Clone)]
pub struct Jwt {
    algorithm: Algorithm,
    /// `None` when this member was given a public key alone.
    signing: Option<EncodingKey>,
    verifying: DecodingKey,
    ttl: Duration,
}

/// Without the keys.
impl std::fmt::Debug for Jwt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Jwt({:?}, ttl {:?})", self.algorithm, self.ttl)
    }
}

impl Jwt {
    /// From the contents of the key files. `method` is spelled as in a token's header.
    pub fn new(method: &str, public: Option<&[u8]>, private: Option<&[u8]>, ttl: Duration) -> Result<Jwt, BadToken> {
        let algorithm: Algorithm = method.parse().map_err(|_| BadToken::Method(method.to_owned()))?;
        let family = Family::of(algorithm);
        let signing = private.map(|pem| family.signing(pem)).transpose().map_err(BadToken::key)?;
        let verifying = match (&signing, public) {
            (Some(signing), _) if family == Family::Hmac => derive(signing, algorithm)?,
            (None, _) if family == Family::Hmac => return Err(BadToken::MissingKey),
            (_, Some(pem)) => family.verifying(pem).map_err(BadToken::key)?,
            (Some(signing), None) => derive(signing, algorithm)?,
            (None, None) => return Err(BadToken::MissingKey),
        };
        let jwt = Jwt { algorithm, signing, verifying, ttl };
        if jwt.signing.is_some() {
            let probe = jwt.sign("probe", 1, Duration::ZERO).map_err(|_| BadToken::KeyMismatch)?;
            jwt.verify(&probe, Duration::ZERO).ok_or(BadToken::KeyMismatch)?;
        }
        Ok(jwt)
    }

    /// A token for `user`, made at `now` since the epoch.
    pub fn sign(&self, user: &str, revision: u64, now: Duration) -> Result<String, SignError> {
        let key = self.signing.as_ref().ok_or(SignError::VerifyOnly)?;
        let claims = Signed { exp: (now + self.ttl).as_secs(), revision, username: user };
        jsonwebtoken::encode(&Header::new(self.algorithm), &claims, key).map_err(SignError::Signature)
    }

    /// The user of `token`, if it is valid at `now` since the epoch.
    pub fn verify(&self, token: &str, now: Duration) -> Option<Identity> {
        let mut validation = Validation::new(self.algorithm);
        // Time is compared below, by the world's clock.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let claims = jsonwebtoken::decode::<Claims>(token, &self.verifying, &validation).ok()?.claims;
        let now = now.as_secs_f64();
        let good = claims.exp.is_none_or(|exp| now < exp) && claims.nbf.is_none_or(|nbf| nbf <= now);
        good.then(|| Identity { user: claims.username, revision: claims.revision.max(0.0) as u64 })
    }
}

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// This member has no private key, so clients cannot authenticate with it.
    #[error("auth: token signing attempted with verify-only key")]
    VerifyOnly,
    /// The key is unfit for the method.
    #[error("auth: cannot sign a token: {0}")]
    Signature(jsonwebtoken::errors::Error),
}

fn derive(signing: &EncodingKey, algorithm: Algorithm) -> Result<DecodingKey, BadToken> {
    let public = Jwk::from_encoding_key(signing, algorithm).map_err(BadToken::key)?;
    DecodingKey::from_jwk(&public).map_err(BadToken::key)
}

/// An Ed25519 key in the shortest of its forms, without the public key that some tools write behind it (RFC 8410): its
/// public half is derived from that form only.
fn alone(key: &EncodingKey) -> EncodingKey {
    const HEAD: [u8; 16] = *b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
    const SEED_BYTES: usize = 32;
    match key.as_bytes().get(HEAD.len()..HEAD.len() + SEED_BYTES) {
        Some(seed) => EncodingKey::from_ed_der(&[&HEAD[..], seed].concat()),
        None => key.clone(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Hmac,
    Rsa,
    Ec,
    Ed,
}

impl Family {
    fn of(algorithm: Algorithm) -> Family {
        match algorithm {
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => Family::Hmac,
            Algorithm::ES256 | Algorithm::ES384 => Family::Ec,
            Algorithm::EdDSA => Family::Ed,
            _ => Family::Rsa,
        }
    }

    fn signing(self, key: &[u8]) -> Result<EncodingKey, jsonwebtoken::errors::Error> {
        match self {
            Family::Hmac => Ok(EncodingKey::from_secret(key)),
            Family::Rsa => EncodingKey::from_rsa_pem(key),
            Family::Ec => EncodingKey::from_ec_pem(key),
            Family::Ed => EncodingKey::from_ed_pem(key).map(|key| alone(&key)),
        }
    }

    fn verifying(self, key: &[u8]) -> Result<DecodingKey, jsonwebtoken::errors::Error> {
        match self {
            Family::Hmac => Ok(DecodingKey::from_secret(key)),
            Family::Rsa => DecodingKey::from_rsa_pem(key),
            Family::Ec => DecodingKey::from_ec_pem(key),
            Family::Ed => DecodingKey::from_ed_pem(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);
    const NOW: Duration = Duration::from_secs(1_000_000);

    fn pair(algorithm: &'static rcgen::SignatureAlgorithm) -> (String, String) {
        let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
        (pair.public_key_pem(), pair.serialize_pem())
    }

    #[test]
    fn a_token_says_who_holds_it_until_its_time_is_over() {
        let (ec_public, ec_private) = pair(&rcgen::PKCS_ECDSA_P256_SHA256);
        let (ed_public, ed_private) = pair(&rcgen::PKCS_ED25519);
        for (method, public, private) in [
            ("HS256", None, "secret"),
            ("HS512", None, "secret"),
            ("ES256", Some(&ec_public), &ec_private[..]),
            ("ES256", None, &ec_private),
            ("EdDSA", Some(&ed_public), &ed_private),
            ("EdDSA", None, &ed_private),
        ] {
            let public = public.map(|public| public.as_bytes());
            let jwt = Jwt::new(method, public, Some(private.as_bytes()), TTL).unwrap();
            let token = jwt.sign("alice", 7, NOW).unwrap();
            let alice = Identity { user: "alice".into(), revision: 7 };
            assert_eq!(jwt.verify(&token, NOW + TTL / 2), Some(alice.clone()), "{method}");
            assert_eq!(jwt.verify(&token, NOW + TTL), None, "{method}: over");
            assert_eq!(jwt.verify(&token[..token.len() - 2], NOW), None, "{method}: cut");
            let Some(public) = public else { continue };
            let reader = Jwt::new(method, Some(public), None, TTL).unwrap();
            assert_eq!(reader.verify(&token, NOW), Some(alice), "{method}: public key alone");
            assert!(matches!(reader.sign("alice", 7, NOW), Err(SignError::VerifyOnly)));
        }
    }

    #[test]
    fn a_token_of_another_method_is_none() {
        let secret = Some(&b"secret"[..]);
        let (one, other) =
            (Jwt::new("HS256", None, secret, TTL).unwrap(), Jwt::new("HS384", None, secret, TTL).unwrap());
        assert_eq!(one.verify(&other.sign("alice", 7, NOW).unwrap(), NOW), None);
        assert_eq!(one.verify("", NOW), None);
        assert_eq!(one.verify("abc.7", NOW), None);
    }

    #[test]
    fn keys_are_checked_at_once() {
        let (public, private) = pair(&rcgen::PKCS_ECDSA_P256_SHA256);
        let (other, _) = pair(&rcgen::PKCS_ECDSA_P256_SHA256);
        let (public, private, other) = (public.as_bytes(), private.as_bytes(), other.as_bytes());
        let new = |method: &str, public, private| Jwt::new(method, public, private, TTL).map(drop).unwrap_err();
        assert!(matches!(new("ES256", None, None), BadToken::MissingKey));
        assert!(matches!(new("HS256", Some(b"secret"), None), BadToken::MissingKey));
        assert!(matches!(new("ES256", Some(other), Some(private)), BadToken::KeyMismatch));
        assert!(matches!(new("none", Some(public), None), BadToken::Method(_)));
        assert!(matches!(new("ES256", Some(b"nonsense"), None), BadToken::Key(_)));
    }
}
