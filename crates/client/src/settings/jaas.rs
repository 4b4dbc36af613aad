//! `sasl.jaas.config`: the form in which Java clients are told user and password.
//!
//! `MODULE FLAG name="value" name=value … ;` with Java's comments and escapes.

use std::{collections::BTreeMap, iter::Peekable, str::Chars};

use crate::{Error, ErrorKind};

/// A login module and what it is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) module: String,
    pub(super) options: BTreeMap<String, String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Quoted(String),
    Equals,
    End,
}

impl Login {
    /// Reads one. The error does not repeat the text: there is a password in it.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let bad = |expected: &str| {
            Error::new(ErrorKind::Config, format!("sasl.jaas.config cannot be read: expected {expected}"))
                .with_advice("It looks like this: org.apache.kafka.common.security.plain.PlainLoginModule required username=\"…\" password=\"…\";")
        };
        let mut tokens = Tokens { chars: text.chars().peekable() };
        let Some(Token::Word(module)) = tokens.next().map_err(bad)? else {
            return Err(bad("the name of a login module"));
        };
        let flags = ["required", "requisite", "sufficient", "optional"];
        match tokens.next().map_err(bad)? {
            Some(Token::Word(flag))
                if flags.iter().any(|known| flag.eq_ignore_ascii_case(known)) => {}
            _ => return Err(bad("\"required\" after the login module")),
        }
        let mut options = BTreeMap::new();
        loop {
            let name = match tokens.next().map_err(bad)? {
                Some(Token::End) => break,
                Some(Token::Word(name)) => name,
                _ => return Err(bad("name=\"value\" or \";\" at the end")),
            };
            let equals = tokens.next().map_err(bad)?;
            let value = tokens.next().map_err(bad)?;
            let (Some(Token::Equals), Some(Token::Word(value) | Token::Quoted(value))) =
                (equals, value)
            else {
                return Err(bad("name=\"value\""));
            };
            options.insert(name, value);
        }
        if tokens.next().map_err(bad)?.is_some() {
            return Err(bad("nothing after \";\": one login module"));
        }
        Ok(Self { module, options })
    }
}

struct Tokens<'a> {
    chars: Peekable<Chars<'a>>,
}

impl Tokens<'_> {
    fn next(&mut self) -> Result<Option<Token>, &'static str> {
        loop {
            let Some(first) = self.chars.next() else { return Ok(None) };
            return Ok(Some(match first {
                space if space.is_whitespace() => continue,
                '/' => {
                    self.comment()?;
                    continue;
                }
                '=' => Token::Equals,
                ';' => Token::End,
                quote @ ('"' | '\'') => Token::Quoted(self.quoted(quote)?),
                first => {
                    let mut word = String::from(first);
                    let ends = |next: &char| next.is_whitespace() || "=;\"'".contains(*next);
                    while let Some(next) = self.chars.next_if(|next| !ends(next)) {
                        word.push(next);
                    }
                    Token::Word(word)
                }
            }));
        }
    }

    /// After its first slash.
    fn comment(&mut self) -> Result<(), &'static str> {
        match self.chars.next() {
            Some('/') => {
                while self.chars.next_if(|next| *next != '\n').is_some() {}
                Ok(())
            }
            Some('*') => {
                let mut last = ' ';
                for next in self.chars.by_ref() {
                    if last == '*' && next == '/' {
                        return Ok(());
                    }
                    last = next;
                }
                Err("an end of the comment")
            }
            _ => Err("a comment after \"/\""),
        }
    }

    /// After its opening quote. Escapes are Java's.
    fn quoted(&mut self, quote: char) -> Result<String, &'static str> {
        const UNFINISHED: &str = "a closing quote";
        let mut text = String::new();
        loop {
            match self.chars.next().ok_or(UNFINISHED)? {
                end if end == quote => return Ok(text),
                '\\' => text.push(match self.chars.next().ok_or(UNFINISHED)? {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    first @ '0'..='7' => {
                        let mut code = first.to_digit(8).unwrap_or_default();
                        let longest = if first <= '3' { 2 } else { 1 };
                        for _ in 0..longest {
                            let Some(next) = self.chars.next_if(|next| next.is_digit(8)) else {
                                break;
                            };
                            code = code * 8 + next.to_digit(8).unwrap_or_default();
                        }
                        char::from_u32(code).ok_or(UNFINISHED)?
                    }
                    other => other,
                }),
                other => text.push(other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Vec<(String, String)> {
        Login::parse(text).expect("a login").options.into_iter().collect()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn module_flag_and_options() {
        let login = Login::parse(
            "org.apache.kafka.common.security.plain.PlainLoginModule required\n  username=\"alice\"\n  password=\"a;b=c\" ;\n",
        )
        .expect("a login");
        assert_eq!(login.module, "org.apache.kafka.common.security.plain.PlainLoginModule");
        assert_eq!(login.options["username"], "alice");
        assert_eq!(login.options["password"], "a;b=c");
    }

    #[test]
    fn quotes_escapes_and_comments_are_javas() {
        assert_eq!(
            options(
                r#"M required a="x\"y\\z" /* not b="1" */ c='q"' d=plain // e="2"
                ;"#
            ),
            [pair("a", r#"x"y\z"#), pair("c", "q\""), pair("d", "plain")]
        );
        assert_eq!(options(r#"M optional a="\101\t";"#), [pair("a", "A\t")]);
    }

    #[test]
    fn what_is_no_login_is_refused_without_showing_the_password() {
        for text in [
            "",
            "M",
            "M maybe a=\"s3cr3t\";",
            "M required a=\"s3cr3t\"",
            "M required a=\"s3cr3t",
            "M required a s3cr3t;",
            "M required a=;",
            "M required; N required;",
            "M required /* ;",
        ] {
            let error = Login::parse(text).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(!error.to_string().contains("s3cr3t"), "{error}");
        }
    }
}
