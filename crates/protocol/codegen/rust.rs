//! Writes one module for each message: its structs, their defaults and their codec.
//!
//! Decoding and encoding are straight-line code over the fields in wire order. There is one encode function; run over a
//! counting sink it yields the size, run over a writer the bytes, so both can never disagree. It takes the sink as a trait
//! object, so that it is compiled once, here, and not again in every crate that sends a message.

use std::fmt::Write;

use super::{
    grammar::{Document, Field, Kind, Message, Struct, Type, Versions},
    names,
};

pub fn messages(documents: &[Document]) -> String {
    let mut out = String::new();
    let mut reexports = String::new();
    let mut visits = Visits::default();
    for document in documents {
        for message in &document.messages {
            let name = message_name(document, message);
            let module = names::snake(&name);
            let _ = writeln!(reexports, "pub use self::{module}::{name};");
            let structs = structs(&name, message);
            let _ = writeln!(out, "/// [`{name}`] and its parts.\npub mod {module} {{");
            out.push_str("    use super::codec::*;\n");
            for item in &structs {
                let writer = StructWriter { message, structs: &structs, item, root: &name };
                writer.write(&mut out, item.name == name);
            }
            write_message_impl(&mut out, document, message, &name);
            out.push_str("}\n\n");
            visits.add(document, message, &name);
        }
    }
    reexports + "\n" + &visits.finish() + "\n" + &out
}

/// The tables that lead from a name or an API to a message's type.
#[derive(Default)]
struct Visits {
    names: String,
    by_name: String,
    requests: String,
    responses: String,
}

impl Visits {
    fn add(&mut self, document: &Document, message: &Message, name: &str) {
        let _ = write!(self.names, "\"{name}\", ");
        let _ = write!(self.by_name, "\"{name}\" => visitor.visit::<{name}>(), ");
        if let Kind::Api { .. } = document.kind {
            let arms = match message.role.as_str() {
                "request" => &mut self.requests,
                _ => &mut self.responses,
            };
            let _ = write!(arms, "ApiKey::{} => visitor.visit::<{name}>(), ", document.name);
        }
    }

    fn finish(self) -> String {
        let Self { names, by_name, requests, responses } = self;
        format!(
            "/// The name of every message in the schemas.\n\
             pub const NAMES: &[&str] = &[{names}];\n\n\
             /// Calls `visitor` with the message of this name; `None` where no message has it.\n\
             pub fn visit<V: Visitor>(name: &str, visitor: V) -> Option<V::Output> {{\n    \
             Some(match name {{ {by_name} _ => return None }})\n}}\n\n\
             /// Calls `visitor` with the request of `api`.\n\
             pub fn visit_request<V: Visitor>(api: ApiKey, visitor: V) -> V::Output {{\n    \
             match api {{ {requests} }}\n}}\n\n\
             /// Calls `visitor` with the response of `api`.\n\
             pub fn visit_response<V: Visitor>(api: ApiKey, visitor: V) -> V::Output {{\n    \
             match api {{ {responses} }}\n}}\n"
        )
    }
}

fn message_name(document: &Document, message: &Message) -> String {
    let suffix = match message.role.as_str() {
        "request" => "Request",
        "response" => "Response",
        "key" => "Key",
        "value" => "Value",
        _ => "",
    };
    format!("{}{suffix}", document.name)
}

/// All structures of a message, the message itself first.
fn structs(name: &str, message: &Message) -> Vec<Struct> {
    fn collect(fields: &[Field], out: &mut Vec<Struct>) {
        for field in fields {
            if let (Some(name), false) = (field.ty.struct_name(), field.children.is_empty()) {
                out.push(Struct { name: name.to_owned(), fields: field.children.clone() });
                collect(&field.children, out);
            }
        }
    }
    let mut out = vec![Struct { name: name.to_owned(), fields: message.fields.clone() }];
    collect(&message.fields, &mut out);
    for shared in &message.structs {
        out.push(shared.clone());
        collect(&shared.fields, &mut out);
    }
    out
}

fn write_message_impl(out: &mut String, document: &Document, message: &Message, name: &str) {
    let Versions { lo, hi } = message.versions;
    let flexible = match message.flexible {
        Some(versions) => format!("Some({})", versions.lo),
        None => "None".to_owned(),
    };
    let tags = match message.flexible.and_then(|versions| versions.intersect(message.versions)) {
        Some(_) => "Some(&mut self.unknown_tagged_fields)",
        None => "None",
    };
    let _ = writeln!(
        out,
        "    impl Message for {name} {{\n        \
         const NAME: &'static str = \"{name}\";\n        \
         const VERSIONS: std::ops::RangeInclusive<i16> = {lo}..={hi};\n        \
         const FIRST_FLEXIBLE: Option<i16> = {flexible};\n        \
         fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {{\n            \
         check_decode_version::<Self>(version)?;\n            Self::read(r, version)\n        }}\n        \
         fn encode(&self, s: &mut dyn Sink, version: i16) -> Result<(), EncodeError> {{\n            \
         check_encode_version::<Self>(version)?;\n            self.write(s, version)\n        }}\n        \
         fn unknown_tagged_fields_mut(&mut self) -> Option<&mut UnknownTags> {{ {tags} }}\n        \
         #[cfg(feature = \"json\")]\n        \
         fn to_json(&self, version: i16) -> json::Value {{ JsonForm::to_value(self, version) }}\n        \
         #[cfg(feature = \"json\")]\n        \
         fn from_json(value: &json::Value, version: i16) -> Result<Self, json::JsonError> {{\n            \
         json::check_version::<Self>(version)?;\n            JsonForm::from_value(value, version, \"{name}\")\n        }}\n    }}"
    );
    match (&document.kind, message.role.as_str()) {
        (Kind::Api { .. }, "request") => {
            let _ = writeln!(
                out,
                "    impl Request for {name} {{\n        const API_KEY: ApiKey = ApiKey::{0};\n        type Response = super::{0}Response;\n    }}",
                document.name
            );
        }
        (Kind::Record { record_type }, "key") => {
            let _ = writeln!(
                out,
                "    impl {name} {{\n        /// The int16 that stands before the key.\n        pub const RECORD_TYPE: i16 = {record_type};\n    }}"
            );
        }
        _ => {}
    }
}

struct StructWriter<'a> {
    message: &'a Message,
    structs: &'a [Struct],
    item: &'a Struct,
    root: &'a str,
}

impl StructWriter<'_> {
    fn write(&self, out: &mut String, is_root: bool) {
        self.write_definition(out, is_root);
        self.write_default(out);
        let _ = writeln!(out, "    impl {} {{", self.item.name);
        self.write_read(out);
        self.write_write(out);
        out.push_str("    }\n");
        self.write_json(out);
    }

    /// Whether this structure can carry tags: in some version the message is flexible.
    fn carries_tags(&self) -> bool {
        self.message.flexible.and_then(|f| f.intersect(self.message.versions)).is_some()
    }

    fn write_definition(&self, out: &mut String, is_root: bool) {
        let name = &self.item.name;
        let of = if is_root { String::new() } else { format!(" A part of [`{}`].", self.root) };
        let _ = writeln!(
            out,
            "    /// `{name}`, versions {} to {}.{of}\n    #[derive(Clone, Debug, PartialEq)]\n    pub struct {name} {{",
            self.message.versions.lo, self.message.versions.hi
        );
        for field in &self.item.fields {
            let _ = writeln!(
                out,
                "        /// {}\n        pub {}: {},",
                self.field_doc(field),
                names::field(&field.name),
                self.rust_type(field)
            );
        }
        if self.carries_tags() {
            out.push_str("        /// Tags that the schema does not know, kept as they came.\n        pub unknown_tagged_fields: UnknownTags,\n");
        }
        out.push_str("    }\n");
    }

    fn field_doc(&self, field: &Field) -> String {
        let mut doc = match self.in_message(field.versions) {
            None => "In no version of this message".to_owned(),
            Some(v) if v == self.message.versions => "In all versions".to_owned(),
            Some(v) if v.hi == self.message.versions.hi => format!("Since version {}", v.lo),
            Some(v) if v.lo == v.hi => format!("Only in version {}", v.lo),
            Some(v) => format!("Versions {} to {}", v.lo, v.hi),
        };
        if let Some((tag, _)) = field.tagged {
            let _ = write!(doc, "; tagged {tag}");
        }
        if let Some(default) = &field.default {
            let _ = write!(doc, "; default {default}");
        }
        doc.push('.');
        doc
    }

    fn write_default(&self, out: &mut String) {
        let name = &self.item.name;
        let _ = writeln!(
            out,
            "    impl Default for {name} {{\n        fn default() -> Self {{\n            Self {{"
        );
        for field in &self.item.fields {
            let _ = writeln!(
                out,
                "                {}: {},",
                names::field(&field.name),
                self.default_value(field)
            );
        }
        if self.carries_tags() {
            out.push_str("                unknown_tagged_fields: UnknownTags::default(),\n");
        }
        out.push_str("            }\n        }\n    }\n");
    }

    fn write_read(&self, out: &mut String) {
        out.push_str(
            "        fn read(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {\n            let _ = version;\n            let mut m = Self::default();\n",
        );
        for field in &self.item.fields {
            for versions in self.plain_versions(field) {
                let read = self.read_expression(field);
                let condition = self.condition(versions);
                self.guarded(out, condition, &format!("m.{} = {read};", names::field(&field.name)));
            }
        }
        if self.carries_tags() {
            let condition = self.flexible_condition();
            let mut arms = String::new();
            for field in self.tagged_fields() {
                let (Some((tag, versions)), read) = (field.tagged, self.read_expression(field))
                else {
                    continue;
                };
                let guard = match self.in_message(versions).map(|v| self.condition(v)) {
                    Some(Some(condition)) => format!(" if {condition}"),
                    Some(None) => String::new(),
                    None => continue,
                };
                let _ = write!(
                    arms,
                    "{tag}{guard} => {{ m.{} = {read}; Ok(true) }} ",
                    names::field(&field.name)
                );
            }
            let body = format!(
                "m.unknown_tagged_fields = r.tagged_fields(\"{}\", {})?;",
                self.item.name,
                if arms.is_empty() {
                    "|_, _| Ok(false)".to_owned()
                } else {
                    format!("|r, tag| match tag {{ {arms}_ => Ok(false) }}")
                }
            );
            self.guarded(out, condition, &body);
        }
        out.push_str("            Ok(m)\n        }\n");
    }

    fn write_write(&self, out: &mut String) {
        out.push_str(
            "        fn write(&self, s: &mut dyn Sink, version: i16) -> Result<(), EncodeError> {\n            let _ = (version, &s);\n",
        );
        for field in &self.item.fields {
            self.write_absent_check(out, field);
            for versions in self.plain_versions(field) {
                let body =
                    self.write_expression(field, &format!("self.{}", names::field(&field.name)));
                let condition = self.condition(versions);
                self.guarded(out, condition, &body);
            }
        }
        if self.carries_tags() {
            let tagged = self.tagged_fields();
            let mut body = String::from(if tagged.is_empty() { "let" } else { "let mut" });
            body.push_str(" tags = TagWriter::new(&self.unknown_tagged_fields);");
            for field in &tagged {
                let present = self.tag_is_present(field);
                let _ = write!(body, " tags.count(u32::from({present}));");
            }
            body.push_str(" tags.begin(s);");
            for field in tagged {
                let Some((tag, _)) = field.tagged else { continue };
                let present = self.tag_is_present(field);
                let write =
                    self.write_expression(field, &format!("self.{}", names::field(&field.name)));
                let _ = write!(
                    body,
                    "\n                if {present} {{ tags.known(s, {tag}, &|s| {{ {write} Ok(()) }})?; }}"
                );
            }
            body.push_str(" tags.finish(s)?;");
            let condition = self.flexible_condition();
            if let Some(flexible) = &condition {
                let _ = writeln!(
                    out,
                    "            if !({flexible}) && !self.unknown_tagged_fields.is_empty() {{ return Err(EncodeError::field_not_in_version(\"{}.unknown_tagged_fields\", version)); }}",
                    self.item.name
                );
            }
            self.guarded(out, condition, &body);
        }
        out.push_str("            Ok(())\n        }\n");
    }

    /// The JSON form: Kafka's names, fields that the version lacks and tagged fields at their default left out.
    fn write_json(&self, out: &mut String) {
        let name = &self.item.name;
        let mut to_json = String::new();
        let mut from_json = String::new();
        for field in &self.item.fields {
            let Some(versions) = self.in_message(field.versions) else { continue };
            let (key, member) = (names::camel(&field.name), names::field(&field.name));
            let put = format!("fields.put(\"{key}\", &self.{member}, version);");
            let label = self.label(field);
            let take = format!("fields.take(&mut m.{member}, \"{key}\", {label}, version)?;");
            let take_tagged =
                format!("fields.take_tagged(&mut m.{member}, \"{key}\", {label}, version)?;");
            for versions in self.plain_versions(field) {
                self.guarded(&mut to_json, self.condition(versions), &put);
                self.guarded(&mut from_json, self.condition(versions), &take);
            }
            if let Some(tagged) = field.tagged.and_then(|(_, tagged)| versions.intersect(tagged)) {
                self.guarded(&mut to_json, Some(self.tag_is_present(field)), &put);
                self.guarded(&mut from_json, self.condition(tagged), &take_tagged);
            }
        }
        let _ = writeln!(
            out,
            "    #[cfg(feature = \"json\")]\n    impl JsonForm for {name} {{\n        \
             fn to_value(&self, version: i16) -> json::Value {{\n            \
             let _ = version;\n            let mut fields = json::Fields::default();\n{to_json}            \
             fields.finish()\n        }}\n        \
             fn from_value(value: &json::Value, version: i16, field: &'static str) -> Result<Self, json::JsonError> {{\n            \
             let _ = version;\n            let mut fields = json::FieldsReader::new(value, field)?;\n            \
             let mut m = Self::default();\n{from_json}            fields.finish()?;\n            Ok(m)\n        }}\n    }}"
        );
    }

    /// A value that this version cannot carry is dropped where the schema says `ignorable`, an error elsewhere.
    fn write_absent_check(&self, out: &mut String, field: &Field) {
        if field.ignorable {
            return;
        }
        let absent = match self.in_message(field.versions) {
            None => "true".to_owned(),
            Some(versions) => match self.condition(versions) {
                None => return,
                Some(condition) => format!("!({condition})"),
            },
        };
        let _ = writeln!(
            out,
            "            if {absent} && {} {{ return Err(EncodeError::field_not_in_version({}, version)); }}",
            self.differs_from_default(field),
            self.label(field)
        );
    }

    fn tag_is_present(&self, field: &Field) -> String {
        let differs = self.differs_from_default(field);
        let versions = field.tagged.and_then(|(_, versions)| self.in_message(versions));
        match versions.and_then(|versions| self.condition(versions)) {
            Some(condition) => format!("{condition} && {differs}"),
            None => differs,
        }
    }

    fn differs_from_default(&self, field: &Field) -> String {
        let name = format!("self.{}", names::field(&field.name));
        let default = self.default_value(field);
        match (&*default, &field.ty) {
            ("false", _) => name,
            ("true", _) => format!("!{name}"),
            ("None", _) => format!("{name}.is_some()"),
            ("Vec::new()" | "Bytes::new()" | "ByteString::new()", _) => {
                format!("!{name}.is_empty()")
            }
            ("Some(Vec::new())", _) => format!("!{name}.as_ref().is_some_and(Vec::is_empty)"),
            ("Some(Bytes::new())", _) => format!("!{name}.as_ref().is_some_and(Bytes::is_empty)"),
            ("Some(ByteString::new())", _) => {
                format!("!{name}.as_ref().is_some_and(|text| text.is_empty())")
            }
            _ => format!("{name} != {default}"),
        }
    }

    fn tagged_fields(&self) -> Vec<&Field> {
        let mut fields: Vec<_> =
            self.item.fields.iter().filter(|field| field.tagged.is_some()).collect();
        fields.sort_by_key(|field| field.tagged.map(|(tag, _)| tag));
        fields
    }

    /// The versions of this message in which the field stands in its place, not among the tags.
    fn plain_versions(&self, field: &Field) -> Vec<Versions> {
        let Some(versions) = self.in_message(field.versions) else { return Vec::new() };
        match field.tagged {
            None => vec![versions],
            Some((_, tagged)) => {
                // All schemas tag a field from some version on.
                let before = Versions { lo: versions.lo, hi: tagged.lo - 1 };
                (before.lo <= before.hi).then_some(before).into_iter().collect()
            }
        }
    }

    fn in_message(&self, versions: Versions) -> Option<Versions> {
        versions.intersect(self.message.versions)
    }

    /// The test of `version` for a range; `None` where every version of the message is in it.
    fn condition(&self, versions: Versions) -> Option<String> {
        let all = self.message.versions;
        if versions.contains(all) {
            None
        } else if versions.lo == versions.hi {
            Some(format!("version == {}", versions.lo))
        } else if versions.hi >= all.hi {
            Some(format!("version >= {}", versions.lo))
        } else if versions.lo <= all.lo {
            Some(format!("version <= {}", versions.hi))
        } else {
            Some(format!("({}..={}).contains(&version)", versions.lo, versions.hi))
        }
    }

    fn flexible_condition(&self) -> Option<String> {
        self.message.flexible.and_then(|versions| self.condition(versions))
    }

    /// The expression that says whether `field` is in compact form.
    fn compact(&self, field: &Field) -> String {
        if field.never_compact || !self.carries_tags() {
            "false".to_owned()
        } else {
            self.flexible_condition().unwrap_or_else(|| "true".to_owned())
        }
    }

    fn guarded(&self, out: &mut String, condition: Option<String>, body: &str) {
        let _ = match condition {
            None => writeln!(out, "            {body}"),
            Some(condition) => writeln!(out, "            if {condition} {{ {body} }}"),
        };
    }

    fn label(&self, field: &Field) -> String {
        format!("\"{}.{}\"", self.item.name, field.name)
    }

    fn is_error_code(&self, field: &Field) -> bool {
        field.ty == Type::Int16 && field.name.ends_with("error_code")
    }

    fn rust_type(&self, field: &Field) -> String {
        let plain =
            if self.is_error_code(field) { "ErrorCode".to_owned() } else { plain_type(&field.ty) };
        if self.nullable(field).is_some() { format!("Option<{plain}>") } else { plain }
    }

    /// The versions of this message that carry the field and allow null in it.
    fn nullable(&self, field: &Field) -> Option<Versions> {
        field.nullable?.intersect(self.in_message(field.versions)?)
    }

    /// The expression that says whether null may stand in `field`, given that the version carries the field.
    fn nullable_condition(&self, field: &Field) -> String {
        match (self.nullable(field), self.in_message(field.versions)) {
            (Some(nullable), Some(carried)) if nullable.contains(carried) => "true".to_owned(),
            (Some(nullable), _) => {
                assert!(
                    !matches!(field.ty, Type::Struct(_)),
                    "{}.{}: a structure that is marked null or present in some versions only",
                    self.item.name,
                    field.name
                );
                self.condition(nullable).unwrap_or_else(|| "true".to_owned())
            }
            (None, _) => "false".to_owned(),
        }
    }

    fn default_value(&self, field: &Field) -> String {
        let nullable = self.nullable(field).is_some();
        match field.default.as_deref() {
            Some("null") => return "None".to_owned(),
            Some(text) if !matches!(field.ty, Type::String | Type::Array(_)) => {
                return match field.ty {
                    Type::Float64 => format!("{text}f64"),
                    _ if self.is_error_code(field) => format!("ErrorCode::from_code({text})"),
                    _ => text.to_owned(),
                };
            }
            _ => {}
        }
        let plain = match &field.ty {
            Type::Bool => "false".to_owned(),
            Type::Float64 => "0f64".to_owned(),
            Type::String => "ByteString::new()".to_owned(),
            // Java's records default to null, its bytes to empty ones.
            Type::Records if nullable => return "None".to_owned(),
            Type::Bytes | Type::Records => "Bytes::new()".to_owned(),
            Type::Uuid => "Uuid::ZERO".to_owned(),
            Type::Array(_) => "Vec::new()".to_owned(),
            Type::Struct(name) => format!("{name}::default()"),
            _ if self.is_error_code(field) => "ErrorCode::None".to_owned(),
            _ => "0".to_owned(),
        };
        if nullable { format!("Some({plain})") } else { plain }
    }

    fn read_expression(&self, field: &Field) -> String {
        let label = self.label(field);
        let compact = self.compact(field);
        let nullable = self.nullable_condition(field);
        let optional = self.nullable(field).is_some();
        match &field.ty {
            Type::String | Type::Bytes | Type::Records => {
                let method = if field.ty == Type::String { "string" } else { "bytes" };
                if optional {
                    format!("r.nullable_{method}({compact}, {nullable}, {label})?")
                } else {
                    format!("r.{method}({compact}, {label})?")
                }
            }
            Type::Array(element) => {
                let (min, read) = self.element(element, field, &compact, &label);
                if optional {
                    format!("r.nullable_array({compact}, {nullable}, {min}, {label}, {read})?")
                } else {
                    format!("r.array({compact}, {min}, {label}, {read})?")
                }
            }
            Type::Struct(name) => {
                if optional {
                    // Where a tag stands before it, the mark is a varint: 0 null, 1 present.
                    let mark =
                        if field.tagged.is_some() { "is_present_tagged" } else { "is_present" };
                    format!(
                        "if r.{mark}({label})? {{ Some({name}::read(r, version)?) }} else {{ None }}"
                    )
                } else {
                    format!("{name}::read(r, version)?")
                }
            }
            _ if self.is_error_code(field) => format!("ErrorCode::from_code(r.int16({label})?)"),
            primitive => format!("r.{}({label})?", primitive_method(primitive)),
        }
    }

    /// The smallest size of an array's element on the wire, and the closure that reads one.
    fn element(
        &self,
        element: &Type,
        field: &Field,
        compact: &str,
        label: &str,
    ) -> (usize, String) {
        let min = self.min_size(element, field);
        let read = match element {
            Type::String => format!("|r| r.string({compact}, {label})"),
            Type::Bytes | Type::Records => format!("|r| r.bytes({compact}, {label})"),
            Type::Struct(name) => format!("|r| {name}::read(r, version)"),
            Type::Array(inner) => {
                let (min, read) = self.element(inner, field, compact, label);
                format!("|r| r.array({compact}, {min}, {label}, {read})")
            }
            primitive => format!("|r| r.{}({label})", primitive_method(primitive)),
        };
        (min, read)
    }

    /// The fewest bytes that a value of `field`'s element takes, in any version that carries the field.
    fn min_size(&self, ty: &Type, field: &Field) -> usize {
        let carried = self.in_message(field.versions).unwrap_or(self.message.versions);
        (carried.lo..=carried.hi)
            .map(|version| self.min_size_in(ty, version, field.never_compact))
            .min()
            // An element of no bytes at all would let a count run free of the bytes that remain.
            .map_or(1, |size| size.max(1))
    }

    fn min_size_in(&self, ty: &Type, version: i16, never_compact: bool) -> usize {
        let only = Versions { lo: version, hi: version };
        let flexible = self.message.flexible.is_some_and(|flexible| flexible.contains(only));
        let compact = flexible && !never_compact;
        match ty {
            Type::Bool | Type::Int8 => 1,
            Type::Int16 | Type::Uint16 => 2,
            Type::Int32 | Type::Uint32 => 4,
            Type::Int64 | Type::Float64 => 8,
            Type::Uuid => 16,
            Type::String | Type::Bytes | Type::Records | Type::Array(_) if compact => 1,
            Type::String => 2,
            Type::Bytes | Type::Records | Type::Array(_) => 4,
            Type::Struct(name) => {
                let Some(item) = self.structs.iter().find(|item| item.name == *name) else {
                    panic!("{}: no structure {name}", self.root)
                };
                let stands = |field: &&Field| {
                    let tagged = field.tagged.is_some_and(|(_, tagged)| tagged.contains(only));
                    field.versions.contains(only) && !tagged
                };
                let size = |field: &Field| match field.ty {
                    Type::Struct(_) if self.nullable(field).is_some() => 1,
                    ref ty => self.min_size_in(ty, version, field.never_compact),
                };
                let fields: usize = item.fields.iter().filter(stands).map(size).sum();
                fields + usize::from(flexible)
            }
        }
    }

    fn write_expression(&self, field: &Field, value: &str) -> String {
        let label = self.label(field);
        let compact = self.compact(field);
        let nullable = self.nullable_condition(field);
        let optional = self.nullable(field).is_some();
        match &field.ty {
            Type::String | Type::Bytes | Type::Records => {
                let method = if field.ty == Type::String { "put_string" } else { "put_bytes" };
                if optional {
                    format!(
                        "{method}(s, {compact}, non_null({value}.as_ref(), {nullable}, {label}, version)?, {label})?;"
                    )
                } else {
                    format!("{method}(s, {compact}, Some(&{value}), {label})?;")
                }
            }
            Type::Array(element) => {
                let write = self.write_element(element, &compact, &label);
                if optional {
                    format!(
                        "put_array(s, {compact}, non_null({value}.as_deref(), {nullable}, {label}, version)?, {label}, |s, item| {write})?;"
                    )
                } else {
                    format!("put_array(s, {compact}, Some(&{value}), {label}, |s, item| {write})?;")
                }
            }
            Type::Struct(_) => {
                if optional {
                    let null = if field.tagged.is_some() { 0 } else { -1 };
                    format!(
                        "match non_null({value}.as_ref(), {nullable}, {label}, version)? {{ None => s.put_int8({null}), Some(item) => {{ s.put_int8(1); item.write(s, version)?; }} }}"
                    )
                } else {
                    format!("{value}.write(s, version)?;")
                }
            }
            _ if self.is_error_code(field) => format!("s.put_int16({value}.code());"),
            Type::Uuid => format!("s.put_uuid(&{value});"),
            primitive => format!("s.put_{}({value});", primitive_method(primitive)),
        }
    }

    fn write_element(&self, element: &Type, compact: &str, label: &str) -> String {
        match element {
            Type::String => format!("put_string(s, {compact}, Some(item), {label})"),
            Type::Bytes | Type::Records => format!("put_bytes(s, {compact}, Some(item), {label})"),
            Type::Struct(_) => "item.write(s, version)".to_owned(),
            Type::Array(inner) => {
                let write = self.write_element(inner, compact, label);
                format!("put_array(s, {compact}, Some(item), {label}, |s, item| {write})")
            }
            Type::Uuid => "{ s.put_uuid(item); Ok(()) }".to_owned(),
            primitive => format!("{{ s.put_{}(*item); Ok(()) }}", primitive_method(primitive)),
        }
    }
}

fn plain_type(ty: &Type) -> String {
    match ty {
        Type::Bool => "bool".to_owned(),
        Type::Int8 => "i8".to_owned(),
        Type::Int16 => "i16".to_owned(),
        Type::Uint16 => "u16".to_owned(),
        Type::Int32 => "i32".to_owned(),
        Type::Uint32 => "u32".to_owned(),
        Type::Int64 => "i64".to_owned(),
        Type::Float64 => "f64".to_owned(),
        Type::String => "ByteString".to_owned(),
        Type::Bytes | Type::Records => "Bytes".to_owned(),
        Type::Uuid => "Uuid".to_owned(),
        Type::Struct(name) => name.clone(),
        Type::Array(element) => format!("Vec<{}>", plain_type(element)),
    }
}

fn primitive_method(ty: &Type) -> &'static str {
    match ty {
        Type::Bool => "bool",
        Type::Int8 => "int8",
        Type::Int16 => "int16",
        Type::Uint16 => "uint16",
        Type::Int32 => "int32",
        Type::Uint32 => "uint32",
        Type::Int64 => "int64",
        Type::Float64 => "float64",
        Type::Uuid => "uuid",
        Type::String | Type::Bytes | Type::Records | Type::Struct(_) | Type::Array(_) => {
            unreachable!("not a primitive: {ty:?}")
        }
    }
}
