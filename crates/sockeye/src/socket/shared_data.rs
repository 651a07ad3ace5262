//! The data of a socket that other nodes see. Does not know who asks for it.

use serde_json::value::RawValue;
use sockeye_proto::socket::OwnedArgs;

use crate::extensions::Extensions;

/// What [`Socket::set_shared_data`](super::Socket::set_shared_data) has set: one argument.
pub(crate) struct SharedData(OwnedArgs);

impl SharedData {
    pub(super) fn new(data: OwnedArgs) -> Self {
        Self(data)
    }

    /// What is among these data.
    pub(super) fn find(data: &Extensions) -> Option<OwnedArgs> {
        data.with(|Self(data)| data.clone())
    }

    /// As [`find`](Self::find); an empty object where there is none, as in Node.
    pub(crate) fn of(data: &Extensions) -> OwnedArgs {
        Self::find(data).unwrap_or_else(|| {
            OwnedArgs::one(&RawValue::from_string("{}".to_owned()).expect("JSON"), Vec::new())
        })
    }

    /// Data with this.
    pub(crate) fn into_extensions(data: OwnedArgs) -> Extensions {
        let all = Extensions::default();
        if !matches!(data.raw(), "" | "{}") {
            all.insert(Self(data));
        }
        all
    }
}
