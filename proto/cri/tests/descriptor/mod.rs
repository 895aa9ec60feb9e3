//! A compiled `.proto` as a flat list of facts, so that two of them can be compared line by line.

use std::collections::BTreeMap;
use std::path::Path;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    ServiceDescriptorProto,
};

/// What is declared (`field Mount.readonly`) to how (`3 bool`). Order, comments, file options and
/// reserved numbers are no facts: they change nothing on the wire.
pub(crate) type Facts = BTreeMap<String, String>;

/// Compiles `file` below `directory` and lists what it declares.
pub(crate) fn facts_of(directory: &Path, file: &str) -> Facts {
    let set = protox::compile([file], [directory]).unwrap_or_else(|error| {
        panic!(
            "cannot compile {}: {error:?}",
            directory.join(file).display()
        )
    });
    let Some(proto) = set.file.iter().find(|proto| proto.name() == file) else {
        panic!("{file} is not among its own descriptors");
    };
    assert_eq!(
        proto.package(),
        "runtime.v1",
        "{} is not CRI v1",
        directory.display()
    );
    facts(proto)
}

fn facts(proto: &FileDescriptorProto) -> Facts {
    let mut facts = Facts::new();
    for service in &proto.service {
        add_service(&mut facts, service);
    }
    for message in &proto.message_type {
        add_message(&mut facts, message, message.name());
    }
    for r#enum in &proto.enum_type {
        add_enum(&mut facts, r#enum, r#enum.name());
    }
    facts
}

fn add_service(facts: &mut Facts, service: &ServiceDescriptorProto) {
    let stream = |yes| if yes { "stream " } else { "" };
    for rpc in &service.method {
        let how = format!(
            "({}{}) -> {}{}",
            stream(rpc.client_streaming()),
            rpc.input_type(),
            stream(rpc.server_streaming()),
            rpc.output_type()
        );
        facts.insert(format!("rpc {}.{}", service.name(), rpc.name()), how);
    }
}

fn add_message(facts: &mut Facts, message: &DescriptorProto, path: &str) {
    facts.insert(format!("message {path}"), String::new());
    for field in &message.field {
        facts.insert(
            format!("field {path}.{}", field.name()),
            field_fact(message, field),
        );
    }
    for nested in &message.nested_type {
        // The entry message of a map is shown as the map's type.
        if !nested
            .options
            .as_ref()
            .is_some_and(|options| options.map_entry())
        {
            add_message(facts, nested, &format!("{path}.{}", nested.name()));
        }
    }
    for r#enum in &message.enum_type {
        add_enum(facts, r#enum, &format!("{path}.{}", r#enum.name()));
    }
}

fn field_fact(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let mut fact = format!("{} ", field.number());
    let entry = message.nested_type.iter().find(|nested| {
        nested
            .options
            .as_ref()
            .is_some_and(|options| options.map_entry())
            && field
                .type_name()
                .ends_with(&format!(".{}.{}", message.name(), nested.name()))
    });
    if let Some(entry) = entry {
        fact += &format!(
            "map<{}, {}>",
            type_of(&entry.field[0]),
            type_of(&entry.field[1])
        );
    } else {
        match field.label() {
            Label::Optional if field.proto3_optional() => fact += "optional ",
            Label::Optional => {}
            Label::Repeated => fact += "repeated ",
            Label::Required => fact += "required ",
        }
        fact += &type_of(field);
    }
    if let Some(index) = field.oneof_index {
        fact += &format!(" in oneof {}", message.oneof_decl[index as usize].name());
    }
    if field
        .options
        .as_ref()
        .is_some_and(|options| options.deprecated())
    {
        fact += " deprecated";
    }
    fact
}

fn type_of(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum | Type::Group => field.type_name().to_owned(),
        scalar => scalar
            .as_str_name()
            .trim_start_matches("TYPE_")
            .to_lowercase(),
    }
}

fn add_enum(facts: &mut Facts, r#enum: &EnumDescriptorProto, path: &str) {
    facts.insert(format!("enum {path}"), String::new());
    for value in &r#enum.value {
        facts.insert(
            format!("value {path}.{}", value.name()),
            value.number().to_string(),
        );
    }
}
