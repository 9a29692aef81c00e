//! A line of plain text is an identifier, and becomes a job that carries it in the field of its scheme.

use crate::job::{ArtifactId, JobSpec, Key};

use super::error::{Fault, Problem};
use super::line::quoted;
use super::{Identifier, IdentifierError, Kinds, Scheme};
use crate::job::host_of;

/// What begins a line that is only a remark.
const COMMENT: char = '#';

/// Whether a line of this form says nothing.
pub(super) fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with(COMMENT)
}

/// The job that one identifier asks for.
pub(super) fn spec(line: &str, kinds: &Kinds) -> Result<JobSpec, Problem> {
    let text = line.trim();
    let found = Identifier::recognise(text).map_err(|error| Problem::at(line, text, error))?;
    if found.written.contains(char::is_whitespace) {
        let error = IdentifierError::WhiteSpace(crate::job::excerpt(text));
        return Err(Problem::at(line, text, error));
    }
    let id = ArtifactId::new(&found.artifact_id())
        .map_err(|error| Problem::at(line, text, Fault::DerivedId(error)))?;
    Ok(spec_of(id, Some(&found), kinds))
}

/// A job of that id whose payload is the identifier alone, or empty where there is none.
pub(super) fn spec_of(id: ArtifactId, found: Option<&Identifier<'_>>, kinds: &Kinds) -> JobSpec {
    let host = found.filter(|it| it.scheme == Scheme::Url).and_then(|it| host_of(it.written));
    let payload = found.map_or_else(
        || "{}".to_owned(),
        |it| format!("{{\"{}\":{}}}", it.scheme.field(), quoted(it.written)),
    );
    JobSpec {
        artifact_id: id,
        kind: kinds.default.clone(),
        priority: crate::job::Priority::default(),
        run_at: None,
        max_attempts: None,
        timeout_seconds: None,
        retry: None,
        key: Key { resolver: None, host },
        tags: Vec::new(),
        payload,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Kind;

    fn kinds() -> Kinds {
        Kinds::new([Kind::fetch()], Kind::fetch())
    }

    #[track_caller]
    fn check(line: &str, id: &str, payload: &str) {
        let job = spec(line, &kinds()).unwrap_or_else(|problem| panic!("{line}: {problem:?}"));
        assert_eq!((job.artifact_id.as_str(), job.payload.as_str()), (id, payload));
    }

    #[test]
    fn a_line_is_an_identifier_in_any_spelling() {
        check(" https://doi.org/10.1234/ABC\t", "doi:10.1234/abc", r#"{"doi":"10.1234/ABC"}"#);
        check("DOI: 10.1234/a\"b", "doi:10.1234/a\"b", r#"{"doi":"10.1234/a\"b"}"#);
        check("arXiv:2101.00001v2", "arxiv:2101.00001v2", r#"{"arxiv_id":"2101.00001v2"}"#);
        check("pmc77", "pmcid:PMC77", r#"{"pmcid":"pmc77"}"#);
        check(
            "https://A.example/x#y",
            "url:https://a.example/x",
            r#"{"url":"https://A.example/x#y"}"#,
        );
        let job = spec("https://A.example:8080/x", &kinds()).unwrap();
        assert_eq!(job.key.host.as_deref(), Some("a.example"));
    }

    #[test]
    fn anything_else_is_a_bad_line_and_placed() {
        let problem = spec("  hello", &kinds()).unwrap_err();
        assert_eq!((problem.offset, problem.len), (2, 5));
        assert_eq!(problem.fault, Fault::Identifier(IdentifierError::Unknown("hello".into())));
        let two = spec("10.1234/a 10.1234/b", &kinds()).unwrap_err();
        assert!(matches!(two.fault, Fault::Identifier(IdentifierError::WhiteSpace(_))));
        let long = spec(&format!("10.1234/{}", "x".repeat(3_000)), &kinds()).unwrap_err();
        assert!(matches!(long.fault, Fault::DerivedId(_)));
    }

    #[test]
    fn a_remark_begins_with_a_number_sign() {
        assert!(is_comment(" # from the reading group"));
        assert!(!is_comment("10.1234/a#b"));
    }
}
