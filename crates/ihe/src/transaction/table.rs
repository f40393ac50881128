//! The SOAP transactions and their actions (profile 08 §2).

use std::sync::LazyLock;

use crate::xml::Ns;

/// `wsa:Action` of requests and answers.
pub mod action {
    /// ITI-18 request.
    pub const ITI_18: &str = "urn:ihe:iti:2007:RegistryStoredQuery";
    /// ITI-18 answer.
    pub const ITI_18_RESPONSE: &str = "urn:ihe:iti:2007:RegistryStoredQueryResponse";
    /// ITI-38 request.
    pub const ITI_38: &str = "urn:ihe:iti:2007:CrossGatewayQuery";
    /// ITI-38 answer.
    pub const ITI_38_RESPONSE: &str = "urn:ihe:iti:2007:CrossGatewayQueryResponse";
    /// ITI-39 request.
    pub const ITI_39: &str = "urn:ihe:iti:2007:CrossGatewayRetrieve";
    /// ITI-39 answer.
    pub const ITI_39_RESPONSE: &str = "urn:ihe:iti:2007:CrossGatewayRetrieveResponse";
    /// ITI-51 request.
    pub const ITI_51: &str = "urn:ihe:iti:2009:MultiPatientStoredQuery";
    /// ITI-51 answer.
    pub const ITI_51_RESPONSE: &str = "urn:ihe:iti:2009:MultiPatientStoredQueryResponse";
    /// RAD-75 request.
    pub const RAD_75: &str = "urn:ihe:rad:2011:CrossGatewayRetrieveImagingDocumentSet";
    /// RAD-75 answer.
    pub const RAD_75_RESPONSE: &str = "urn:ihe:rad:2011:CrossGatewayRetrieveImagingDocumentSetResponse";
    /// ITI-41 and RAD-68 request.
    pub const ITI_41: &str = "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b";
    /// ITI-41 and RAD-68 answer.
    pub const ITI_41_RESPONSE: &str = "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-bResponse";
    /// ITI-42 request.
    pub const ITI_42: &str = "urn:ihe:iti:2007:RegisterDocumentSet-b";
    /// ITI-42 answer.
    pub const ITI_42_RESPONSE: &str = "urn:ihe:iti:2007:RegisterDocumentSet-bResponse";
    /// ITI-43 request.
    pub const ITI_43: &str = "urn:ihe:iti:2007:RetrieveDocumentSet";
    /// ITI-43 and RAD-69 answer.
    pub const ITI_43_RESPONSE: &str = "urn:ihe:iti:2007:RetrieveDocumentSetResponse";
    /// ITI-57 request.
    pub const ITI_57: &str = "urn:ihe:iti:2010:UpdateDocumentSet";
    /// RAD-69 request.
    pub const RAD_69: &str = "urn:ihe:rad:2009:RetrieveImagingDocumentSet";
}

/// Frame of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// `application/soap+xml`.
    Plain,
    /// MTOM.
    Mtom,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transaction {
    /// `ITI-18`, `RAD-69` …
    pub number: &'static str,
    /// `wsa:Action` of the request.
    pub request_action: &'static str,
    /// `wsa:Action` of the answer.
    pub response_action: &'static str,
    /// The Body's child in the request.
    pub body: (Ns, &'static str),
    /// Frame of the answer.
    pub frame: Frame,
    /// Does it change the registry or repository? Then MessageID is its idempotency key (profile 08 §4).
    pub changes_state: bool,
}

/// All rows, in the order of the table.
pub fn transactions() -> &'static [Transaction] {
    static TABLE: LazyLock<Vec<Transaction>> = LazyLock::new(|| {
        let rows = include_str!("../../../../configs/ihe/transactions.tsv").lines().filter(|line| !line.starts_with('#'));
        rows.map(|row| {
            let columns: Vec<&'static str> = row.split('\t').collect();
            let [number, request_action, response_action, body, frame, effect] = columns[..] else {
                unreachable!("the shipped table has six columns: {row}")
            };
            let (prefix, local) = body.split_once(':').expect("the shipped table names the body with its prefix");
            let ns = [Ns::Query, Ns::Lcm, Ns::Xdsb, Ns::Xdsi, Ns::Rmd].into_iter().find(|ns| ns.prefix() == prefix);
            Transaction {
                number,
                request_action,
                response_action,
                body: (ns.expect("the shipped table uses known prefixes"), local),
                frame: if frame == "mtom" { Frame::Mtom } else { Frame::Plain },
                changes_state: effect == "state",
            }
        })
        .collect()
    });
    &TABLE
}

/// The transaction of a request action; RAD-68 is found as ITI-41.
pub fn of_action(action: &str) -> Option<&'static Transaction> {
    transactions().iter().find(|transaction| transaction.request_action == action)
}

/// The transaction of a number.
pub fn of_number(number: &str) -> Option<&'static Transaction> {
    transactions().iter().find(|transaction| transaction.number == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_names_one_transaction_and_the_constants_agree() {
        for transaction in transactions() {
            assert_eq!(of_action(transaction.request_action), Some(transaction));
            assert_eq!(of_number(transaction.number), Some(transaction));
        }
        for (number, request, response) in [
            ("ITI-18", action::ITI_18, action::ITI_18_RESPONSE),
            ("ITI-41", action::ITI_41, action::ITI_41_RESPONSE),
            ("ITI-42", action::ITI_42, action::ITI_42_RESPONSE),
            ("ITI-43", action::ITI_43, action::ITI_43_RESPONSE),
            ("RAD-69", action::RAD_69, action::ITI_43_RESPONSE),
            ("ITI-38", action::ITI_38, action::ITI_38_RESPONSE),
            ("ITI-39", action::ITI_39, action::ITI_39_RESPONSE),
            ("ITI-51", action::ITI_51, action::ITI_51_RESPONSE),
            ("RAD-75", action::RAD_75, action::RAD_75_RESPONSE),
        ] {
            let transaction = of_number(number).expect(number);
            assert_eq!((transaction.request_action, transaction.response_action), (request, response), "{number}");
        }
        assert_eq!(of_number("ITI-57").map(|t| t.request_action), Some(action::ITI_57));
    }
}
