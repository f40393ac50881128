//! What no route may do does not compile (profile 05 §9).

#[test]
fn an_answer_is_made_of_disclosed_values_only() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
