//! In whose name a command asks a store that knows users.

use std::fmt;
use std::str::FromStr;

use chorus_proto::etcdserverpb as pb;

use crate::store::client::{Caller, Client};
use crate::store::error::Error;

/// A user and its password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct User {
    name: String,
    password: String,
}

impl FromStr for User {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<User, &'static str> {
        match text.split_once(':') {
            Some((name, password)) if !name.is_empty() => {
                Ok(User { name: name.to_owned(), password: password.to_owned() })
            }
            _ => Err("a user is given as NAME:PASSWORD"),
        }
    }
}

/// Without the password, which must not get into logs.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("User").field(&self.name).finish()
    }
}

/// The same store in the name of `user`. As with etcd's clients, a user does no harm where authentication is off.
pub(super) async fn in_the_name_of(user: Option<&User>, store: Client) -> Result<Client, Error> {
    let Some(User { name, password }) = user.cloned() else { return Ok(store) };
    let request = pb::AuthenticateRequest { name, password };
    match store.authenticate(request).await {
        Ok(answer) => Ok(store.on_behalf(Caller::Client { token: Some(answer.token), common_name: None })),
        Err(Error::AuthNotEnabled) => Ok(store),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_a_password_that_is_not_shown() {
        let user: User = "root:a:b".parse().unwrap();
        assert_eq!((user.name.as_str(), user.password.as_str()), ("root", "a:b"));
        assert_eq!(format!("{user:?}"), "User(\"root\")");
        assert!("root".parse::<User>().is_err() && ":a".parse::<User>().is_err());
    }
}
