//! The schema language: one file describes an API, a coordinator record, a header or an embedded blob.
//!
//! ```text
//! api NAME key=N listeners=… | record NAME type=N | header NAME | data NAME
//! removed | request|response|key|value|data  versions=LO-HI flexible=N+|none  [latest_unstable]
//!   struct NAME versions=…            a structure that several fields of this message use
//!   field: TYPE  attributes           two more spaces: the fields of a structure or of an array's element
//! ```

/// An inclusive range of versions; `hi` is `i16::MAX` where the schema says `N+`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    pub lo: i16,
    pub hi: i16,
}

impl Versions {
    pub const ALL: Versions = Versions { lo: 0, hi: i16::MAX };

    pub fn parse(text: &str) -> Result<Option<Versions>, String> {
        let number = |s: &str| s.parse::<i16>().map_err(|_| format!("bad versions {text:?}"));
        if text == "none" {
            Ok(None)
        } else if let Some(lo) = text.strip_suffix('+') {
            Ok(Some(Versions { lo: number(lo)?, hi: i16::MAX }))
        } else if let Some((lo, hi)) = text.split_once('-') {
            Ok(Some(Versions { lo: number(lo)?, hi: number(hi)? }))
        } else {
            let only = number(text)?;
            Ok(Some(Versions { lo: only, hi: only }))
        }
    }

    pub fn intersect(self, other: Versions) -> Option<Versions> {
        let (lo, hi) = (self.lo.max(other.lo), self.hi.min(other.hi));
        (lo <= hi).then_some(Versions { lo, hi })
    }

    pub fn contains(self, other: Versions) -> bool {
        self.lo <= other.lo && other.hi <= self.hi
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Uint32,
    Int64,
    Float64,
    String,
    Bytes,
    Uuid,
    Records,
    Struct(String),
    Array(Box<Type>),
}

impl Type {
    fn parse(text: &str) -> Type {
        if let Some(element) = text.strip_prefix("[]") {
            return Type::Array(Box::new(Type::parse(element)));
        }
        match text {
            "bool" => Type::Bool,
            "int8" => Type::Int8,
            "int16" => Type::Int16,
            "uint16" => Type::Uint16,
            "int32" => Type::Int32,
            "uint32" => Type::Uint32,
            "int64" => Type::Int64,
            "float64" => Type::Float64,
            "string" => Type::String,
            "bytes" => Type::Bytes,
            "uuid" => Type::Uuid,
            "records" => Type::Records,
            name => Type::Struct(name.to_owned()),
        }
    }

    /// The structure that this type names, itself or as an array's element.
    pub fn struct_name(&self) -> Option<&str> {
        match self {
            Type::Struct(name) => Some(name),
            Type::Array(element) => element.struct_name(),
            _ => None,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    pub ty: Type,
    pub versions: Versions,
    pub nullable: Option<Versions>,
    /// As written; `None` where the schema gives none, for which `default=None` stands too.
    pub default: Option<String>,
    /// The tag and the versions in which the field travels tagged.
    pub tagged: Option<(u32, Versions)>,
    /// Never in compact form, whatever the message's version is.
    pub never_compact: bool,
    /// A writer drops a value set in a version without the field; otherwise that is an error.
    pub ignorable: bool,
    /// The fields of the structure this field introduces.
    pub children: Vec<Field>,
}

#[derive(Clone, Debug)]
pub struct Struct {
    pub name: String,
    pub fields: Vec<Field>,
}

#[derive(Clone, Debug)]
pub struct Message {
    /// `request`, `response`, `key`, `value` or `data`.
    pub role: String,
    pub versions: Versions,
    pub flexible: Option<Versions>,
    pub latest_unstable: bool,
    /// Structures declared for use by several fields.
    pub structs: Vec<Struct>,
    pub fields: Vec<Field>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Api { key: i16 },
    Record { record_type: i16 },
    Header,
    Data,
}

#[derive(Clone, Debug)]
pub struct Document {
    pub kind: Kind,
    pub name: String,
    pub messages: Vec<Message>,
}

struct Line<'a> {
    number: usize,
    indent: usize,
    text: &'a str,
}

pub fn parse(text: &str) -> Result<Document, String> {
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(
        |(number, line)| Line {
            number: number + 1,
            indent: line.len() - line.trim_start().len(),
            text: line.trim(),
        },
    );
    let head = lines.next().ok_or("empty schema")?;
    let mut words = head.text.split_whitespace();
    let kind = words.next().unwrap_or_default();
    let name = words.next().ok_or("the first line has no name")?.to_owned();
    let number = |key: &str| -> Result<i16, String> {
        attribute(head.text, key)
            .and_then(|value| value.parse().ok())
            .ok_or_else(|| format!("line {}: {key}= is missing", head.number))
    };
    let kind = match kind {
        "api" => Kind::Api { key: number("key")? },
        "record" => Kind::Record { record_type: number("type")? },
        "header" => Kind::Header,
        "data" => Kind::Data,
        other => return Err(format!("line {}: unknown kind {other:?}", head.number)),
    };

    let mut messages: Vec<Message> = Vec::new();
    let body: Vec<Line<'_>> = lines.collect();
    let mut at = 0;
    while at < body.len() {
        let line = &body[at];
        if line.indent != 0 {
            return Err(format!("line {}: a field outside a message", line.number));
        }
        at += 1;
        if line.text == "removed" {
            // Only the number is left of an API that no version of the protocol has any more.
            continue;
        }
        let mut message = parse_message_head(line)?;
        while at < body.len() && body[at].indent > 0 {
            let indent = body[at].indent;
            if let Some(rest) = body[at].text.strip_prefix("struct ") {
                let name = rest.split_whitespace().next().unwrap_or_default().to_owned();
                at += 1;
                let fields = parse_fields(&body, &mut at, indent + 2)?;
                message.structs.push(Struct { name, fields });
            } else {
                let fields = parse_fields(&body, &mut at, indent)?;
                message.fields.extend(fields);
            }
        }
        messages.push(message);
    }
    Ok(Document { kind, name, messages })
}

fn parse_message_head(line: &Line<'_>) -> Result<Message, String> {
    let at = |error: String| format!("line {}: {error}", line.number);
    let versions = attribute(line.text, "versions").ok_or_else(|| at("no versions=".into()))?;
    let flexible = attribute(line.text, "flexible").ok_or_else(|| at("no flexible=".into()))?;
    Ok(Message {
        role: line.text.split_whitespace().next().unwrap_or_default().to_owned(),
        versions: Versions::parse(versions).map_err(at)?.ok_or_else(|| at("no versions".into()))?,
        flexible: Versions::parse(flexible).map_err(at)?,
        latest_unstable: line.text.split_whitespace().any(|word| word == "latest_unstable"),
        structs: Vec::new(),
        fields: Vec::new(),
    })
}

fn parse_fields(body: &[Line<'_>], at: &mut usize, indent: usize) -> Result<Vec<Field>, String> {
    let mut fields = Vec::new();
    while *at < body.len() && body[*at].indent == indent && !body[*at].text.starts_with("struct ") {
        let line = &body[*at];
        *at += 1;
        let mut field = parse_field(line)?;
        field.children = parse_fields(body, at, indent + 2)?;
        fields.push(field);
    }
    Ok(fields)
}

fn parse_field(line: &Line<'_>) -> Result<Field, String> {
    let at = |error: String| format!("line {}: {error}", line.number);
    let (name, rest) =
        line.text.split_once(':').ok_or_else(|| at("a field needs `name: type`".into()))?;
    let ty = rest.split_whitespace().next().ok_or_else(|| at("a field needs a type".into()))?;
    let versions = match attribute(rest, "versions") {
        Some(text) => {
            Versions::parse(text).map_err(at)?.ok_or_else(|| at("versions=none".into()))?
        }
        None => Versions::ALL,
    };
    let nullable = match attribute(rest, "nullable") {
        Some(text) => Versions::parse(text).map_err(at)?,
        None => None,
    };
    let tagged = match (attribute(rest, "tag"), attribute(rest, "tagged")) {
        (Some(tag), Some(text)) => {
            let tag = tag.parse().map_err(|_| at(format!("bad tag {tag:?}")))?;
            Versions::parse(text).map_err(at)?.map(|versions| (tag, versions))
        }
        (None, None) => None,
        _ => return Err(at("tag= and tagged= go together".into())),
    };
    Ok(Field {
        name: name.to_owned(),
        ty: Type::parse(ty),
        versions,
        nullable,
        default: attribute(rest, "default").filter(|text| *text != "None").map(str::to_owned),
        tagged,
        never_compact: attribute(rest, "flexible") == Some("none"),
        ignorable: rest.split_whitespace().any(|word| word == "ignorable"),
        children: Vec::new(),
    })
}

fn attribute<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}
