//! What an emit's arguments may be, and how they become JSON and attachments.
//! Does not know packets; `encoded` writes what is before and behind the arguments.

use std::io;

use bytes::Bytes;
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter};

use super::args::OwnedArgs;
use super::binary::Binary;
use super::name::Name;

/// At least how much may still come behind arguments: what closes the list, and a frame's header.
const CLOSING_BYTES: usize = 16;

/// A packet cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The event's name is one that Socket.IO keeps for itself.
    #[error("\"{0}\" is a reserved event name")]
    Reserved(String),
    /// An argument cannot be JSON, such as a map whose keys are no strings.
    #[error("an argument cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// What `emit(event, args)` accepts.
///
/// * `()` is no argument; a tuple of up to eight values is as many arguments.
/// * `&value` is one argument, for every `Serialize` type, text among them: `&message`, `"text"`.
///   A reference to a tuple is one argument, an array.
/// * `bool`, numbers, `String`, `serde_json::Value`, `Vec<T>`, `Option<T>` and [`Binary`] are one
///   argument without a reference too.
/// * [`OwnedArgs`] are emitted again as they came.
///
/// Bytes at any depth (`Binary`, `bytes::Bytes`, `serde_bytes`) leave as attachments. Floats that
/// are not finite become `null`, as in JavaScript.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the arguments of an event",
    note = "pass a reference to a `Serialize` value for one argument (`&message`), a tuple of \
            values for several (`(\"a\", 1)`), `()` for none"
)]
pub trait EmitArgs {
    /// Writes each argument with [`ArgsWriter::arg`].
    ///
    /// # Errors
    /// An argument cannot be JSON.
    fn write(&self, out: &mut ArgsWriter<'_>) -> Result<(), EncodeError>;
}

/// Takes the arguments of one packet.
#[derive(Debug)]
pub struct ArgsWriter<'a> {
    json: &'a mut Vec<u8>,
    attachments: &'a mut Vec<Bytes>,
    /// Something stands before the next argument, so a comma comes first.
    comma: bool,
}

impl<'a> ArgsWriter<'a> {
    pub(super) fn new(json: &'a mut Vec<u8>, attachments: &'a mut Vec<Bytes>, comma: bool) -> Self {
        Self { json, attachments, comma }
    }

    /// Writes one argument.
    ///
    /// # Errors
    /// It cannot be JSON.
    pub fn arg<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.separate();
        let formatter = Placeholders { attachments: self.attachments };
        value.serialize(&mut serde_json::Serializer::with_formatter(&mut *self.json, formatter))?;
        Ok(())
    }

    /// Writes an event's name as an argument: text, or a number.
    pub fn name(&mut self, name: &Name<'_>) {
        self.separate();
        name.write(self.json);
    }

    /// Writes arguments that are JSON already; placeholders in them count from the first of
    /// `attachments`, so nothing with attachments may stand before them.
    pub(super) fn raw(&mut self, json: &str, attachments: &[Bytes]) {
        if !json.is_empty() {
            self.separate();
            // With room for what closes the list and frames it: what is long would be moved.
            self.json.reserve(json.len() + CLOSING_BYTES);
            self.json.extend_from_slice(json.as_bytes());
        }
        self.attachments.extend_from_slice(attachments);
    }

    fn separate(&mut self) {
        if std::mem::replace(&mut self.comma, true) {
            self.json.push(b',');
        }
    }
}

/// Writes bytes as placeholders and keeps them as attachments.
struct Placeholders<'a> {
    attachments: &'a mut Vec<Bytes>,
}

impl Formatter for Placeholders<'_> {
    fn write_byte_array<W>(&mut self, writer: &mut W, value: &[u8]) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        let num = self.attachments.len();
        self.attachments.push(Bytes::copy_from_slice(value));
        writer.write_all(b"{\"_placeholder\":true,\"num\":")?;
        CompactFormatter.write_u64(writer, num as u64)?;
        writer.write_all(b"}")
    }
}

impl<T: Serialize + ?Sized> EmitArgs for &T {
    fn write(&self, out: &mut ArgsWriter<'_>) -> Result<(), EncodeError> {
        out.arg(*self)
    }
}

impl EmitArgs for OwnedArgs {
    fn write(&self, out: &mut ArgsWriter<'_>) -> Result<(), EncodeError> {
        out.raw(self.raw(), self.attachments());
        Ok(())
    }
}

macro_rules! one_argument {
    ($([$($generics:tt)*] $type:ty;)*) => {
        $(impl<$($generics)*> EmitArgs for $type {
            fn write(&self, out: &mut ArgsWriter<'_>) -> Result<(), EncodeError> {
                out.arg(self)
            }
        })*
    };
}

one_argument! {
    [] bool; [] char; [] String; [] Binary; [] serde_json::Value;
    [] i8; [] i16; [] i32; [] i64; [] isize;
    [] u8; [] u16; [] u32; [] u64; [] usize;
    [] f32; [] f64;
    [T: Serialize] Vec<T>;
    [T: Serialize] Option<T>;
}

macro_rules! tuple {
    ($($name:ident)*) => {
        impl<$($name: Serialize),*> EmitArgs for ($($name,)*) {
            #[allow(non_snake_case, unused_variables)]
            fn write(&self, out: &mut ArgsWriter<'_>) -> Result<(), EncodeError> {
                let ($($name,)*) = self;
                $(out.arg($name)?;)*
                Ok(())
            }
        }
    };
}

tuple!();
tuple!(A);
tuple!(A B);
tuple!(A B C);
tuple!(A B C D);
tuple!(A B C D E);
tuple!(A B C D E F);
tuple!(A B C D E F G);
tuple!(A B C D E F G H);
