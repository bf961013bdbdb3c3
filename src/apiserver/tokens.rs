//! Service-account tokens: ES256 JWTs with upstream's claims. Pure but for the key; the authenticator checks that the
//! account still exists.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::Error;

/// Signs and verifies tokens.
pub struct Tokens {
    issuer: String,
    key_id: String,
    signing: EncodingKey,
    verifying: DecodingKey,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    pub aud: Vec<String>,
    pub exp: u64,
    pub iat: u64,
    pub iss: String,
    pub jti: String,
    #[serde(rename = "kubernetes.io")]
    pub private: PrivateClaims,
    pub nbf: u64,
    pub sub: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrivateClaims {
    pub namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    pub serviceaccount: Reference,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    pub name: String,
    #[serde(default)]
    pub uid: String,
}

/// Why a token is not valid. The client gets a bare 401.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    #[error("it is not a token of this cluster: {0}")]
    Foreign(String),
    #[error("it has expired or is not valid yet")]
    Expired,
    #[error("it is for another audience")]
    Audience,
}

impl Tokens {
    pub fn new(private_pem: &str, public_pem: &str, issuer: &str) -> Result<Tokens, Error> {
        let refuse = |error: jsonwebtoken::errors::Error| Error::TokenKey(error.to_string());
        let key_id = super::hex(&Sha256::digest(public_pem.as_bytes())[..16]);
        Ok(Tokens {
            issuer: issuer.to_owned(),
            key_id,
            signing: EncodingKey::from_ec_pem(private_pem.as_bytes()).map_err(refuse)?,
            verifying: DecodingKey::from_ec_pem(public_pem.as_bytes()).map_err(refuse)?,
        })
    }

    /// The public key as a JWK set, for programs outside the cluster that verify tokens.
    pub fn key_set(&self) -> serde_json::Value {
        let point = self.verifying.try_get_as_bytes().unwrap_or_default();
        // An uncompressed point of the curve: 0x04, x, y.
        let (x, y) = match point {
            [4, rest @ ..] if rest.len() == 64 => rest.split_at(32),
            _ => return serde_json::json!({"keys": []}),
        };
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        serde_json::json!({"keys": [{
            "use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256", "x": encode(x), "y": encode(y),
        }]})
    }

    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    pub fn sign(&self, claims: &Claims) -> Result<String, jsonwebtoken::errors::Error> {
        let header = Header { typ: None, kid: Some(self.key_id.clone()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, claims, &self.signing)
    }

    /// The claims of a token that this cluster signed for one of `audiences` and that is valid at `now` (since the
    /// Unix epoch). `None` asks for the API's own audience.
    pub fn verify(&self, token: &str, audiences: Option<&[String]>, now: Duration) -> Result<Claims, InvalidToken> {
        let mut validation = Validation::new(Algorithm::ES256);
        // Times are compared with the world's clock below, not with the machine's.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.set_issuer(&[&self.issuer]);
        let claims = jsonwebtoken::decode::<Claims>(token, &self.verifying, &validation)
            .map_err(|error| InvalidToken::Foreign(error.to_string()))?
            .claims;
        let now = now.as_secs();
        if now >= claims.exp || now < claims.nbf {
            return Err(InvalidToken::Expired);
        }
        let own = [self.issuer.clone()];
        let wanted = audiences.unwrap_or(&own);
        if !claims.aud.iter().any(|audience| wanted.contains(audience)) {
            return Err(InvalidToken::Audience);
        }
        Ok(claims)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub const NOW: Duration = Duration::from_secs(1_800_000_000);

    /// A key pair as PEM: private, public.
    pub fn key() -> (String, String) {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        (key.serialize_pem(), key.public_key_pem())
    }

    fn claims() -> Claims {
        Claims {
            aud: vec!["api".to_owned()],
            exp: NOW.as_secs() + 10,
            iat: NOW.as_secs(),
            iss: "api".to_owned(),
            jti: "1".to_owned(),
            private: PrivateClaims { namespace: "ns".to_owned(), ..PrivateClaims::default() },
            nbf: NOW.as_secs(),
            sub: "system:serviceaccount:ns:sa".to_owned(),
        }
    }

    #[test]
    fn a_token_is_believed_in_its_time_for_its_audience() {
        let (private, public) = key();
        let tokens = Tokens::new(&private, &public, "api").unwrap();
        let token = tokens.sign(&claims()).unwrap();
        assert_eq!(tokens.verify(&token, None, NOW), Ok(claims()));
        assert_eq!(tokens.key_set()["keys"][0]["crv"], "P-256");
        assert_eq!(tokens.verify(&token, Some(&["vault".to_owned()]), NOW), Err(InvalidToken::Audience));
        assert_eq!(tokens.verify(&token, None, NOW + Duration::from_secs(10)), Err(InvalidToken::Expired));
        assert_eq!(tokens.verify(&token, None, NOW - Duration::from_secs(1)), Err(InvalidToken::Expired));
    }

    #[test]
    fn tokens_of_others_are_not_believed() {
        let (private, public) = key();
        let tokens = Tokens::new(&private, &public, "api").unwrap();
        let (other_private, other_public) = key();
        let other = Tokens::new(&other_private, &other_public, "api").unwrap().sign(&claims()).unwrap();
        let elsewhere = Tokens::new(&private, &public, "elsewhere").unwrap();
        let foreign = elsewhere.sign(&Claims { iss: "elsewhere".to_owned(), ..claims() }).unwrap();
        for token in [other.as_str(), foreign.as_str(), "", "a.b.c", "not a token"] {
            assert!(matches!(tokens.verify(token, None, NOW), Err(InvalidToken::Foreign(_))), "{token}");
        }
    }
}
