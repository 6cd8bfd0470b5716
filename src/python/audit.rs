//! `gomap audit`: a policy, the facts of a target, and the answer in the form asked for.

use super::{guarded, joined, write_all, Output, OutputArgs, PySession, PyTarget, PyWatch};
use crate::answer::map_facts;
use crate::audit::baseline::Baseline;
use crate::audit::form::{render, Form};
use crate::audit::policy::Policy;
use crate::audit::Maps;
use crate::{files, Error};
use pyo3::prelude::*;
use std::io::Write;
use std::path::PathBuf;

/// The limits of an audit: a TOML file, or what is checked without one.
#[pyclass(name = "Policy", frozen)]
struct PyPolicy(Policy);

#[pymethods]
impl PyPolicy {
    #[new]
    #[pyo3(signature = (path=None))]
    fn new(py: Python<'_>, path: Option<PathBuf>) -> PyResult<PyPolicy> {
        let policy = guarded(py, || path.map_or_else(|| Ok(Policy::default()), |path| Policy::read(&path)))?;
        Ok(PyPolicy(policy))
    }

    /// The maps of a session, as far as this policy asks for them.
    #[pyo3(signature = (session, *, progress=None))]
    fn maps_of(&self, py: Python<'_>, session: &PySession, progress: Option<Py<PyAny>>) -> PyResult<PyMaps> {
        let (session, watch) = (session.look_with_threads(py)?, PyWatch::new(progress));
        Ok(PyMaps(guarded(py, || match self.0.asks_for_maps() {
            true => map_facts(session.get(), self.0.asks_for_keys(), &watch),
            false => Ok(Maps::default()),
        })?))
    }
}

/// The maps of a target, for an audit.
#[pyclass(name = "Maps", frozen)]
struct PyMaps(Maps);

/// Holds the sources to the policy; returns whether anything is to be mended.
#[pyfunction]
#[pyo3(signature = (policy, *, profiles, trace, target, maps, force, baseline, write_baseline, form, to))]
#[allow(clippy::too_many_arguments)]
fn audit(
    py: Python<'_>,
    policy: &PyPolicy,
    profiles: Vec<PathBuf>,
    trace: Option<PathBuf>,
    target: Option<&PyTarget>,
    maps: Option<&PyMaps>,
    force: bool,
    baseline: Option<PathBuf>,
    write_baseline: Option<PathBuf>,
    form: &str,
    to: OutputArgs,
) -> PyResult<bool> {
    let form = Form::of(form)?;
    let out = Output::open(to)?;
    let watch = PyWatch::new(None);
    let (text, passed) = guarded(py, || {
        let mut baseline = baseline.map(|path| Baseline::read(&path)).transpose()?;
        let found = joined(&profiles, trace.as_deref(), target.map(|target| target.0.clone()), force, &watch)?;
        let mut audit = crate::audit::audit(&policy.0, &found, maps.map(|maps| &maps.0));
        if let Some(path) = write_baseline {
            let known = Baseline::of(&audit);
            let failed = |error| Error::of_output(&error, &path.display().to_string());
            let mut file = files::Output::create(&path)?;
            file.write_all(known.text().as_bytes()).map_err(failed)?;
            file.finish()?;
            baseline = Some(known);
            audit
                .notes
                .push(format!("the baseline {} was written: what it holds is known from now on", path.display()));
        }
        if let Some(baseline) = baseline {
            baseline.apply(&mut audit, policy.0.baseline.tolerance);
        }
        Ok((render(&audit, form)?, audit.passed()))
    })?;
    out.run(py, move |_, out| write_all(out, &text))?;
    Ok(!passed)
}

/// Adds the classes and functions of this file.
pub fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyPolicy>()?;
    module.add_class::<PyMaps>()?;
    module.add_function(wrap_pyfunction!(audit, module)?)
}
