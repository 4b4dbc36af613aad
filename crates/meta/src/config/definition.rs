//! One config: its name, type, default and range, and parsing of its values in the way Kafka parses them.

use std::fmt;

use super::error::ConfigError;

/// The type of a config's value, with Kafka's type ids (DescribeConfigs v3+).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigType {
    /// `true` or `false`, in any case.
    Boolean = 1,
    /// Text; blanks around it do not count.
    String = 2,
    /// A 32-bit number.
    Int = 3,
    /// A 16-bit number.
    Short = 4,
    /// A 64-bit number.
    Long = 5,
    /// A floating-point number.
    Double = 6,
    /// Comma-separated text.
    List = 7,
    /// The name of a Java class.
    Class = 8,
    /// Text that is never shown.
    Password = 9,
}

impl ConfigType {
    /// The id on the wire.
    #[must_use]
    pub fn id(self) -> i8 {
        self as i8
    }

    /// Kafka's name of the type, in upper case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Boolean => "BOOLEAN",
            Self::String => "STRING",
            Self::Int => "INT",
            Self::Short => "SHORT",
            Self::Long => "LONG",
            Self::Double => "DOUBLE",
            Self::List => "LIST",
            Self::Class => "CLASS",
            Self::Password => "PASSWORD",
        }
    }
}

/// How much a config matters to most users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Importance {
    High,
    Medium,
    Low,
}

/// Whether setting a config changes what Kavka does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It does what its documentation says.
    Honoured,
    /// It is accepted, kept and described, but changes nothing, for the reason given.
    Ignored(&'static str),
    /// It cannot be set, for the reason given.
    Refused(&'static str),
}

/// Which values are allowed, apart from the type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Valid {
    /// All of them.
    Any,
    /// Numbers from this one on.
    AtLeast(i64),
    /// Numbers from the first to the second, both included.
    Between(i64, i64),
    /// Fractions from the first to the second, both included.
    Fraction(f64, f64),
    /// As [`Between`](Self::Between), and the third number.
    BetweenOr(i64, i64, i64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// One of these words, in any case.
    OneOfAnyCase(&'static [&'static str]),
    /// A list of these words; none is fine, and a word that comes again counts once.
    ListOf(&'static [&'static str]),
    /// `*`, or a list of `partition:broker`.
    ThrottledReplicas,
    /// `latest`, `earliest` or `by_duration:` and a duration in ISO 8601 form that is not negative.
    OffsetReset,
    /// Text that is not empty.
    NonEmpty,
    /// A list that is not empty.
    NonEmptyList,
    /// Text, possibly empty, but never null.
    NonNull,
}

/// A parsed value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of a [`ConfigType::Boolean`].
    Boolean(bool),
    /// Of the three kinds of whole numbers.
    Number(i64),
    /// Of a [`ConfigType::Double`].
    Double(f64),
    /// Of text of any kind.
    Text(String),
    /// Of a [`ConfigType::List`].
    List(Vec<String>),
}

/// All there is to know about one config.
#[derive(Debug, Clone, Copy)]
pub struct ConfigDef {
    /// The name, as users write it.
    pub name: &'static str,
    /// The type of the value.
    pub kind: ConfigType,
    /// The default as text; `None` when there is none.
    pub default: Option<&'static str>,
    /// Which values are allowed.
    pub valid: Valid,
    /// How much it matters.
    pub importance: Importance,
    /// Not for users: known and parsed, but not listed.
    pub internal: bool,
    /// What setting it does.
    pub effect: Effect,
    /// Of a topic or group config: the broker config that gives the value where it is not set.
    pub broker_key: Option<&'static str>,
    /// Broker configs that give the value when `broker_key` is not set either, with the factor from their unit to this
    /// one's. When there are some, `broker_key` has no default of its own.
    pub fallbacks: &'static [(&'static str, i64)],
    /// What it means, in a sentence or two.
    pub doc: &'static str,
}

impl ConfigDef {
    /// A config that is honoured, of medium importance, without broker counterpart.
    #[must_use]
    pub const fn new(
        name: &'static str,
        kind: ConfigType,
        default: Option<&'static str>,
        valid: Valid,
        doc: &'static str,
    ) -> Self {
        Self {
            name,
            kind,
            default,
            valid,
            importance: Importance::Medium,
            internal: false,
            effect: Effect::Honoured,
            broker_key: None,
            fallbacks: &[],
            doc,
        }
    }

    /// Sets the broker config behind it.
    #[must_use]
    pub const fn broker(mut self, key: &'static str) -> Self {
        self.broker_key = Some(key);
        self
    }

    /// Sets what stands in when the broker config behind it is not set.
    #[must_use]
    pub const fn fallbacks(mut self, fallbacks: &'static [(&'static str, i64)]) -> Self {
        self.fallbacks = fallbacks;
        self
    }

    /// Sets the importance.
    #[must_use]
    pub const fn importance(mut self, importance: Importance) -> Self {
        self.importance = importance;
        self
    }

    /// Marks it as accepted without effect.
    #[must_use]
    pub const fn ignored(mut self, why: &'static str) -> Self {
        self.effect = Effect::Ignored(why);
        self
    }

    /// Marks it as refused.
    #[must_use]
    pub const fn refused(mut self, why: &'static str) -> Self {
        self.effect = Effect::Refused(why);
        self
    }

    /// Marks it as not for users.
    #[must_use]
    pub const fn internal(mut self) -> Self {
        self.internal = true;
        self
    }

    /// Whether the value is a secret.
    #[must_use]
    pub fn sensitive(&self) -> bool {
        self.kind == ConfigType::Password
    }

    /// Parses and checks a value.
    ///
    /// # Errors
    /// [`ConfigError::InvalidValue`] or [`ConfigError::EmptyElement`], with Kafka's text.
    pub fn parse(&self, text: &str) -> Result<Value, ConfigError> {
        let value = self.parse_type(text)?;
        match &value {
            Value::Number(number) => self.check_number(text, *number)?,
            Value::Double(number) => self.check_double(text, *number)?,
            Value::Text(word) => self.check_text(text, word)?,
            Value::List(words) => return self.check_list(words),
            Value::Boolean(_) => {}
        }
        Ok(value)
    }

    /// The value as it is described: without blanks, numbers and lists in their usual form.
    ///
    /// # Errors
    /// When it does not [`parse`](Self::parse).
    pub fn normalize(&self, text: &str) -> Result<String, ConfigError> {
        Ok(self.parse(text)?.to_string())
    }

    fn parse_type(&self, text: &str) -> Result<Value, ConfigError> {
        let trimmed = text.trim();
        let not_a_number =
            || self.invalid(text, format!("Not a number of type {}", self.kind.name()));
        let number = |in_type: fn(i64) -> bool| {
            let number = trimmed.parse().ok().filter(|number| in_type(*number));
            number.map(Value::Number).ok_or_else(not_a_number)
        };
        match self.kind {
            ConfigType::Boolean if trimmed.eq_ignore_ascii_case("true") => Ok(Value::Boolean(true)),
            ConfigType::Boolean if trimmed.eq_ignore_ascii_case("false") => {
                Ok(Value::Boolean(false))
            }
            ConfigType::Boolean => {
                Err(self.invalid(text, "Expected value to be either true or false".to_owned()))
            }
            ConfigType::Short => number(|number| i16::try_from(number).is_ok()),
            ConfigType::Int => number(|number| i32::try_from(number).is_ok()),
            ConfigType::Long => number(|_| true),
            ConfigType::Double => {
                // Kafka takes NaN, for which no comparison holds; nobody can want that.
                let number = trimmed.parse().ok().filter(|number: &f64| !number.is_nan());
                number.map(Value::Double).ok_or_else(not_a_number)
            }
            ConfigType::List if trimmed.is_empty() => Ok(Value::List(Vec::new())),
            ConfigType::List => {
                Ok(Value::List(trimmed.split(',').map(|word| word.trim().to_owned()).collect()))
            }
            ConfigType::String | ConfigType::Class => Ok(Value::Text(trimmed.to_owned())),
            ConfigType::Password => Ok(Value::Text(text.to_owned())),
        }
    }

    fn check_number(&self, text: &str, number: i64) -> Result<(), ConfigError> {
        let (low, high) = match self.valid {
            Valid::AtLeast(low) => (low, i64::MAX),
            Valid::Between(low, high) => (low, high),
            Valid::BetweenOr(low, high, other) => {
                if number == other || (low..=high).contains(&number) {
                    return Ok(());
                }
                let reason = format!("Value must be between {low} and {high} or equal to {other}");
                return Err(self.invalid(text, reason));
            }
            _ => return Ok(()),
        };
        if number < low {
            return Err(self.invalid(text, format!("Value must be at least {low}")));
        }
        if number > high {
            return Err(self.invalid(text, format!("Value must be no more than {high}")));
        }
        Ok(())
    }

    fn check_double(&self, text: &str, number: f64) -> Result<(), ConfigError> {
        let Valid::Fraction(low, high) = self.valid else { return Ok(()) };
        if number < low {
            return Err(self.invalid(text, format!("Value must be at least {low}")));
        }
        if number > high {
            return Err(self.invalid(text, format!("Value must be no more than {high}")));
        }
        Ok(())
    }

    fn check_text(&self, text: &str, word: &str) -> Result<(), ConfigError> {
        match self.valid {
            Valid::OneOf(words) if !words.contains(&word) => {
                Err(self.invalid(text, format!("String must be one of: {}", words.join(", "))))
            }
            Valid::OneOfAnyCase(words) if !words.iter().any(|known| known.eq_ignore_ascii_case(word)) => {
                let words = words.join(", ");
                Err(self.invalid(text, format!("String must be one of (case insensitive): {words}")))
            }
            Valid::NonEmpty if word.is_empty() => {
                Err(self.invalid(text, "String must be non-empty".to_owned()))
            }
            Valid::OffsetReset if !is_offset_reset(word) => Err(self.invalid(
                text,
                format!(
                    "Invalid value `{word}` for configuration {}. The value must be either 'earliest', 'latest' or of the format 'by_duration:<PnDTnHnMn.nS>'.",
                    self.name
                ),
            )),
            _ => Ok(()),
        }
    }

    fn check_list(&self, words: &[String]) -> Result<Value, ConfigError> {
        let java_list = || format!("[{}]", words.join(", "));
        match self.valid {
            Valid::ListOf(known) => {
                if words.iter().any(String::is_empty) {
                    return Err(ConfigError::EmptyElement { name: self.name.to_owned() });
                }
                if let Some(word) = words.iter().find(|word| !known.contains(&word.as_str())) {
                    let reason = format!("String must be one of: {}", known.join(", "));
                    return Err(self.invalid(word, reason));
                }
                let mut unique: Vec<String> = Vec::with_capacity(words.len());
                for word in words {
                    if !unique.contains(word) {
                        unique.push(word.clone());
                    }
                }
                return Ok(Value::List(unique));
            }
            Valid::ThrottledReplicas
                if words != ["*"] && !words.iter().all(|word| is_replica(word)) =>
            {
                let name = self.name;
                return Err(self.invalid(
                    &java_list(),
                    format!(
                        "{name} must be the literal '*' or a list of replicas in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],..."
                    ),
                ));
            }
            Valid::NonEmptyList if words.is_empty() => {
                return Err(self.invalid(&java_list(), "List must not be empty".to_owned()));
            }
            _ => {}
        }
        Ok(Value::List(words.to_vec()))
    }

    fn invalid(&self, value: &str, reason: String) -> ConfigError {
        let value = if self.sensitive() { "[hidden]" } else { value };
        ConfigError::InvalidValue { name: self.name.to_owned(), value: value.to_owned(), reason }
    }
}

/// Finds a definition in a table that is sorted by name.
#[must_use]
pub fn find(definitions: &'static [ConfigDef], name: &str) -> Option<&'static ConfigDef> {
    let index = definitions.binary_search_by(|definition| definition.name.cmp(name)).ok()?;
    Some(&definitions[index])
}

fn is_replica(word: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    word.split_once(':').is_some_and(|(partition, broker)| digits(partition) && digits(broker))
}

fn is_offset_reset(word: &str) -> bool {
    match word.strip_prefix("by_duration:") {
        Some(duration) => is_duration(duration),
        None => matches!(word, "latest" | "earliest"),
    }
}

/// Whether this is `PnDTnHnMn.nS`, with at least one part and none negative.
fn is_duration(text: &str) -> bool {
    let upper = text.to_ascii_uppercase();
    let Some(rest) = upper.strip_prefix('P') else { return false };
    let (date, time) = match rest.split_once('T') {
        Some((_, "")) => return false,
        Some((date, time)) => (date, time),
        None => (rest, ""),
    };
    let digits = |text: &str| {
        !text.is_empty() && text.len() <= 18 && text.bytes().all(|b| b.is_ascii_digit())
    };
    let date_ok = date.is_empty() || date.strip_suffix('D').is_some_and(digits);
    let mut rest = time;
    let mut time_ok = true;
    for unit in ['H', 'M', 'S'] {
        if let Some((number, after)) = rest.split_once(unit) {
            let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
            time_ok &= digits(whole) && fraction.len() <= 9 && digits(fraction);
            time_ok &= unit == 'S' || !number.contains('.');
            rest = after;
        }
    }
    date_ok && time_ok && rest.is_empty() && !(date.is_empty() && time.is_empty())
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            // As Java writes it: always with a fraction, and a capital E.
            Self::Double(value) => f.write_str(&format!("{value:?}").replace('e', "E")),
            Self::Text(value) => f.write_str(value),
            Self::List(words) => f.write_str(&words.join(",")),
        }
    }
}

/// The range in the form in which Kafka's documentation prints it; empty when all values are allowed.
impl fmt::Display for Valid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => Ok(()),
            Self::AtLeast(low) => write!(f, "[{low},...]"),
            Self::Between(low, high) => write!(f, "[{low},...,{high}]"),
            Self::Fraction(low, high) => write!(f, "[{low},...,{high}]"),
            Self::BetweenOr(low, high, other) => write!(f, "[{low},...,{high}] or {other}"),
            Self::OneOf(words) | Self::ListOf(words) => write!(f, "[{}]", words.join(", ")),
            Self::OneOfAnyCase(words) => write!(f, "(case insensitive) [{}]", words.join(", ")),
            Self::ThrottledReplicas => {
                f.write_str("[partitionId]:[brokerId],[partitionId]:[brokerId],...")
            }
            Self::OffsetReset => f.write_str("[latest, earliest, by_duration:PnDTnHnMn.nS]"),
            Self::NonEmpty => f.write_str("non-empty string"),
            Self::NonEmptyList => f.write_str("non-empty list"),
            Self::NonNull => f.write_str("non-null string"),
        }
    }
}
