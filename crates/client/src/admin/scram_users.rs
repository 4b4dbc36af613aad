//! Users that authenticate by SCRAM: describing, setting and deleting their credentials.
//!
//! # References
//! KIP-554. The password never leaves this process: the broker gets it salted and hashed.

use std::{collections::BTreeMap, fmt, num::NonZeroU32};

use bytestring::ByteString;
use kavka_protocol::{
    ErrorCode,
    messages::{
        AlterUserScramCredentialsRequest, DescribeUserScramCredentialsRequest,
        alter_user_scram_credentials_request::{ScramCredentialDeletion, ScramCredentialUpsertion},
        describe_user_scram_credentials_request::UserName,
    },
};
use ring::digest;

use super::{Admin, rounds::Repeat};
use crate::{
    Error, ErrorKind,
    connection::sasl::scram::{random, salted_password},
    settings::Secret,
};

/// A form of SCRAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ScramMechanism {
    /// SCRAM-SHA-256.
    Sha256,
    /// SCRAM-SHA-512.
    Sha512,
}

/// What is done with a user's credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScramChange {
    /// It is set, or replaced.
    Set {
        /// By which mechanism the user can authenticate with it.
        mechanism: ScramMechanism,
        /// The password.
        password: Secret,
        /// How often it is hashed: 4096 to 16384.
        iterations: u32,
    },
    /// It is deleted.
    Delete(ScramMechanism),
}

impl ScramMechanism {
    fn code(self) -> i8 {
        match self {
            ScramMechanism::Sha256 => 1,
            ScramMechanism::Sha512 => 2,
        }
    }

    fn of(code: i8) -> Option<Self> {
        match code {
            1 => Some(ScramMechanism::Sha256),
            2 => Some(ScramMechanism::Sha512),
            _ => None,
        }
    }

    fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            ScramMechanism::Sha256 => &digest::SHA256,
            ScramMechanism::Sha512 => &digest::SHA512,
        }
    }
}

impl fmt::Display for ScramMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ScramMechanism::Sha256 => "SCRAM-SHA-256",
            ScramMechanism::Sha512 => "SCRAM-SHA-512",
        })
    }
}

impl Admin {
    /// Which SCRAM credentials users have, with their iterations; of all users, if none is named (KIP-554; Kafka 2.7).
    ///
    /// Cancel safe: it only reads.
    ///
    /// # Errors
    /// The call's: authorization. Per user: `RESOURCE_NOT_FOUND` for one who has none.
    pub async fn describe_scram_users(
        &self,
        users: impl IntoIterator<Item = impl Into<ByteString>>,
    ) -> Result<BTreeMap<ByteString, Result<BTreeMap<ScramMechanism, u32>, Error>>, Error> {
        let users: Vec<ByteString> = users.into_iter().map(Into::into).collect();
        let users = &users;
        self.once(Repeat::Safe, |left| async move {
            let connection = self.cluster.any().await?;
            let name = |name: &ByteString| UserName { name: name.clone(), ..Default::default() };
            let request = DescribeUserScramCredentialsRequest {
                users: Some(users.iter().map(name).collect()),
                ..Default::default()
            };
            let response = self.ask(&connection, &request, i16::MAX, left).await?;
            let what = "describing SCRAM users";
            outcome(response.error_code, response.error_message, what)?;
            let rows = response.results.into_iter().map(|row| {
                let what = format!("describing the SCRAM credentials of user {}", row.user);
                let infos = row.credential_infos.into_iter().filter_map(|info| {
                    let iterations = u32::try_from(info.iterations).ok()?;
                    Some((ScramMechanism::of(info.mechanism)?, iterations))
                });
                let result = outcome(row.error_code, row.error_message, &what);
                (row.user, result.map(|()| infos.collect()))
            });
            Ok(rows.collect())
        })
        .await
    }

    /// Sets or deletes a SCRAM credential of each of some users. Brokers take one change of a user at a time.
    ///
    /// Setting is repeated if an answer was lost; if there is anything to delete, nothing is.
    ///
    /// Cancel safe only in this sense: a request that was sent is worked on.
    ///
    /// # Errors
    /// Per user. `UNACCEPTABLE_CREDENTIAL`: too few or too many iterations. `RESOURCE_NOT_FOUND`: there is nothing to delete. Authorization.
    pub async fn alter_scram_users(
        &self,
        changes: impl IntoIterator<Item = (impl Into<ByteString>, ScramChange)>,
    ) -> BTreeMap<ByteString, Result<(), Error>> {
        let changes: BTreeMap<ByteString, ScramChange> =
            changes.into_iter().map(|(user, change)| (user.into(), change)).collect();
        let deletes = changes.values().any(|change| matches!(change, ScramChange::Delete(_)));
        let repeat = if deletes { Repeat::Unsafe } else { Repeat::Safe };
        let mut upsertions = BTreeMap::new();
        let mut failed = BTreeMap::new();
        for (user, change) in &changes {
            match salted(user, change).await {
                Ok(Some(upsertion)) => drop(upsertions.insert(user.clone(), upsertion)),
                Ok(None) => {}
                Err(error) => drop(failed.insert(user.clone(), Err(error))),
            }
        }
        let (changes, upsertions) = (&changes, &upsertions);
        let users = changes.keys().filter(|user| !failed.contains_key(*user)).cloned();
        let results = self.rounds(users, |users, left| {
            let ask = move |connection, users: Vec<ByteString>| async move {
                let deletion = |user: &ByteString| match changes.get(user) {
                    Some(ScramChange::Delete(mechanism)) => Some(ScramCredentialDeletion {
                        name: user.clone(),
                        mechanism: mechanism.code(),
                        ..Default::default()
                    }),
                    _ => None,
                };
                let request = AlterUserScramCredentialsRequest {
                    deletions: users.iter().filter_map(deletion).collect(),
                    upsertions: users
                        .iter()
                        .filter_map(|user| upsertions.get(user).cloned())
                        .collect(),
                    ..Default::default()
                };
                let response = self.ask(&connection, &request, i16::MAX, left).await?;
                let rows = response.results.into_iter().map(|row| {
                    let what = format!("altering the SCRAM credentials of user {}", row.user);
                    let result = outcome(row.error_code, row.error_message, &what);
                    (row.user, result)
                });
                Ok(rows.collect())
            };
            self.at_controller(users, repeat, ask)
        });
        let mut results = results.await;
        results.extend(failed);
        results
    }
}

/// A new credential: with a new salt, and the password hashed where that holds up nobody.
async fn salted(
    user: &ByteString,
    change: &ScramChange,
) -> Result<Option<ScramCredentialUpsertion>, Error> {
    let ScramChange::Set { mechanism, password, iterations } = change else { return Ok(None) };
    let bad = |what: &str| Error::new(ErrorKind::Config, format!("user {user}: {what}"));
    if password.reveal().is_empty() {
        return Err(bad("the password is empty"));
    }
    let count = NonZeroU32::new(*iterations).filter(|count| (4096..=16384).contains(&count.get()));
    let count = count.ok_or_else(|| bad("SCRAM needs 4096 to 16384 iterations"))?;
    let mut salt = [0; 26];
    random(&mut salt)?;
    let (algorithm, password) = (mechanism.algorithm(), password.clone());
    let hash = move || salted_password(algorithm, password.reveal().as_bytes(), &salt, count);
    let salted = tokio::task::spawn_blocking(hash).await.map_err(|_| {
        Error::new(ErrorKind::Closed, "the runtime ended while a password was hashed")
    })?;
    Ok(Some(ScramCredentialUpsertion {
        name: user.clone(),
        mechanism: mechanism.code(),
        iterations: i32::try_from(count.get()).unwrap_or(i32::MAX),
        salt: salt.to_vec().into(),
        salted_password: salted.into(),
        ..Default::default()
    }))
}

fn outcome(code: ErrorCode, message: Option<ByteString>, what: &str) -> Result<(), Error> {
    match code {
        ErrorCode::None => Ok(()),
        code => Err(Error::broker(code, what).with_detail(message.as_deref().map(AsRef::as_ref))),
    }
}
