//! ITI-18 Registry Stored Query (ITI TF-2 §3.18); its messages are also those of ITI-38 and ITI-51.
//!
//! [`read`] takes the request as it stands; [`interpret`] checks it against the table of stored queries
//! (`configs/ihe/stored-queries.tsv`) and gives a [`Query`], whose [`Query::selection`] is the typed form.
//! [`encode`] writes a request, [`encode_response`] an answer.
//!
//! # Bounds
//! [`Options`]: Slots, values per Slot, ids (profile 08 §6).

mod definition;
mod error;
mod interpret;
mod message;
mod selection;
mod value;

pub use definition::{Cardinality, Definition, Kind, ParameterDefinition, Presence, definitions};
pub use error::QueryError;
pub use interpret::{Options, Parameter, Query, ReturnType, interpret};
pub use message::{AdhocQueryRequest, Parameters, QueryResponse, Results, encode, encode_response, read, read_response};
pub use selection::{AllFilter, Content, DocumentFilter, Excluded, FolderFilter, ObjectIds, Selection, SubmissionSetFilter, TimeRange};
pub use value::{CodeValue, LikePattern, Token, Value, pad_dtm, tokens};
