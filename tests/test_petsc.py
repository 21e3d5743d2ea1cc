"""PETSc: preconditioners and methods as its python types, in Python, C and Fortran, on ranks."""

import gc
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import weakref
from pathlib import Path

import numpy as np
import petsc4py
import pytest
import scipy.sparse as sp

import krylearn as kl
from krylearn import registry
from krylearn.petsc import hooks, library, preconditioner

petsc4py.init([])
from petsc4py import PETSc  # noqa: E402

HERE = Path(__file__).parent
FAILED = PETSc.KSP.ConvergedReason.DIVERGED_PCSETUP_FAILED
PRECONDITIONERS = [e.name for e in registry.entries("preconditioner")]


@pytest.fixture
def options():
    """PETSc's database of options, cleared afterwards."""
    database = PETSc.Options()
    before = set(database.getAll())
    yield database
    for name in set(database.getAll()) - before:
        database.delValue(name)


def system(shape=(16, 16), **settings):
    P = kl.problems.darcy(shape, seed=3, **settings)
    A = kl.petsc.from_csr(P.A.tocsr(), PETSc.COMM_SELF)
    b, x = A.createVecs()
    b.setArray(P.b)
    return P, A, b, x


def solver(A, name=None, method="cg", prefix="", **settings):
    ksp = PETSc.KSP().create(PETSc.COMM_SELF)
    ksp.setOptionsPrefix(prefix)
    ksp.setOperators(A)
    ksp.setType(method)
    ksp.setTolerances(rtol=1e-10)
    ksp.setNormType(PETSc.KSP.NormType.UNPRECONDITIONED)
    ksp.setPCSide(PETSc.PC.Side.RIGHT if method == "gmres" else PETSc.PC.Side.LEFT)
    context = kl.petsc.pc(ksp.getPC(), name, **settings) if name else None
    return ksp, context


def error(A, b, x):
    r = b.duplicate()
    A.mult(x, r)
    r.axpy(-1.0, b)
    return r.norm() / b.norm()


# -- preconditioners -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*PRECONDITIONERS, "FromPyAMG"])
def test_every_registered_preconditioner_is_a_type(name, options):
    if name == "fast_poisson":
        A = kl.petsc.from_csr(kl.problems.poisson((16, 16)).A.tocsr(), PETSc.COMM_SELF)
        b, x = A.createVecs()
        b.set(1.0)
    else:
        _, A, b, x = system()
    class_ = name if name[0].isupper() else preconditioner.class_name(
        registry.find("preconditioner", name))  # fmt: skip
    options["each_pc_type"] = "python"
    options["each_pc_python_type"] = f"krylearn.petsc.{class_}"
    ksp, _ = solver(A, None, "fgmres", "each_")
    ksp.setPCSide(PETSc.PC.Side.RIGHT)
    ksp.setFromOptions()
    if name == "fast_poisson":  # it takes operators on grids, of which PETSc's matrix is none
        ksp.setOperators(A)
    ksp.solve(b, x)
    context = ksp.getPC().getPythonContext()
    if context.failed:
        assert name == "fast_poisson"
        return
    assert ksp.getConvergedReason() > 0 and error(A, b, x) < 1e-9
    assert context.calls["setUp"] == 1


def test_same_as_the_library_itself():
    P, A, b, x = system()
    ksp, _ = solver(A, "ssor", omega=1.3)
    ksp.solve(b, x)
    y, info = kl.cg(P.A, P.b, rtol=1e-10, M=kl.SSOR(P.A, omega=1.3))
    assert abs(ksp.getIterationNumber() - info.iterations) <= 1
    assert np.allclose(x.getArray(), y, rtol=1e-7)


def test_options_reach_the_preconditioner_and_are_shown(options, capfd):
    _, A, b, x = system()
    options["o_pc_ssor_omega"] = "1.25"
    options["o_pc_ssor_order"] = "multicolour"
    ksp, context = solver(A, "ssor", prefix="o_", omega=1.5, sweeps=2)
    ksp.setFromOptions()
    ksp.solve(b, x)
    assert (context.M.omega, context.M.sweeps, context.M.order) == (1.25, 2, "multicolour")
    ksp.view()
    shown = capfd.readouterr().out
    assert "omega = 1.25\n" in shown and "sweeps = 2\n" in shown and "krylearn.petsc.SSOR" in shown
    options["help"] = ""
    ksp.setFromOptions()
    assert "-o_pc_ssor_omega <young>: float, 'young' or policy" in capfd.readouterr().out


def test_options_that_are_unknown_are_refused(options, capfd):
    _, A, _, _ = system()
    options["u_pc_multigrid_cylce"] = "W"
    ksp, _ = solver(A, "multigrid", prefix="u_")
    with pytest.raises((ValueError, PETSc.Error)):  # later ones say it is an error of PETSc
        ksp.setFromOptions()
    told = capfd.readouterr().err
    assert "Traceback" in told and "is -u_pc_multigrid_cycle meant" in told


def test_any_preconditioner_by_option(options):
    _, A, b, x = system()
    options["m_pc_krylearn_method"] = "chebyshev"
    options["m_pc_chebyshev_degree"] = 3
    ksp, context = solver(A, "Method", prefix="m_")
    ksp.setFromOptions()
    ksp.solve(b, x)
    assert type(context.M) is kl.Chebyshev and context.M.degree == 3


def test_calls_are_as_many_as_they_should_be():
    _, A, b, x = system()
    ksp, context = solver(A, "ic0")
    ksp.solve(b, x)
    first = ksp.getIterationNumber()
    assert context.calls["setUp"] == 1 and context.calls["apply"] == first
    ksp.solve(b, x)
    assert context.calls["setUp"] == 1  # nothing has changed
    A.scale(2.0)
    ksp.solve(b, x)
    assert context.calls["setUp"] == 2 and context.calls["preSolve"] == 3
    assert context.calls["postSolve"] == 3 and not context.calls["applyTranspose"]
    ksp.setType("bicg")
    before = context.calls["apply"]
    ksp.solve(b, x)
    assert ksp.getConvergedReason() > 0
    assert context.calls["applyTranspose"] == context.calls["apply"] - before > 0
    several = PETSc.Mat().createDense((A.getSize()[0], 3), comm=PETSc.COMM_SELF)
    several.setUp()
    result = several.duplicate()
    result.assemble()
    several.getDenseArray()[:] = np.arange(3.0) + 1
    several.assemble()
    library.call("PCMatApply", *map(library.handle, (ksp.getPC(), several, result)))
    assert context.calls["matApply"] == 1
    assert np.allclose(result.getDenseArray()[:, 2], context.M @ np.full(A.getSize()[0], 3.0))
    ksp.getPC().reset()
    assert context.calls["reset"] == 1 and context.M is None
    ksp.destroy()
    assert context.calls["destroy"] == 1 and id(context) not in hooks._held


def test_new_values_are_an_update_and_a_new_pattern_a_new_set_up():
    P, A, b, x = system()
    ksp, context = solver(A, "ic0")
    ksp.solve(b, x)
    made, count = context.M, ksp.getIterationNumber()
    A.scale(3.0)
    ksp.solve(b, x)
    assert context.M is made and ksp.getIterationNumber() == count
    other = sp.csr_array(sp.kron(P.A.tocsr()[:16, :16], sp.eye_array(16)) + 8 * sp.eye_array(256))
    ksp.setOperators(kl.petsc.from_csr(other, PETSc.COMM_SELF))
    ksp.solve(b, x)
    assert context.M is not made and ksp.getConvergedReason() > 0


def test_a_pattern_that_grows_in_place_is_seen():
    A = PETSc.Mat().createAIJ((8, 8), nnz=3, comm=PETSc.COMM_SELF)
    for i in range(8):
        A.setValue(i, i, 4.0)
    A.assemble()
    b, x = A.createVecs()
    b.set(1.0)
    ksp, context = solver(A, "ilu0", "gmres")
    ksp.solve(b, x)
    A.setOption(PETSc.Mat.Option.NEW_NONZERO_ALLOCATION_ERR, False)
    for i in range(7):
        A.setValue(i, i + 1, -1.0)
        A.setValue(i + 1, i, -1.0)
    A.assemble()
    ksp.solve(b, x)
    assert context.M._pattern[1].size == 22 and error(A, b, x) < 1e-9


def test_near_nullspace_and_blocks_reach_multigrid():
    P = kl.problems.elasticity((8, 6))
    A = kl.petsc.from_csr(P.A.tocsr(), PETSc.COMM_SELF)
    B = np.linalg.qr(P.nullspace)[0]
    vectors = [PETSc.Vec().createWithArray(v.copy(), comm=PETSc.COMM_SELF) for v in B.T]
    A.setNearNullSpace(PETSc.NullSpace().create(vectors=vectors, comm=PETSc.COMM_SELF))
    b, x = A.createVecs()
    b.setArray(P.b)
    ksp, context = solver(A, "multigrid")
    ksp.solve(b, x)
    assert ksp.getConvergedReason() > 0 and context.M.B.shape == P.nullspace.shape


def test_nothing_is_left_behind_by_a_thousand_solves():
    _, A, b, x = system((6, 6))
    PETSc.garbage_cleanup()
    alive, held, references = [], len(hooks._held), A.getRefCount()
    for _ in range(1000):
        ksp, context = solver(A, "jacobi")
        ksp.solve(b, x)
        alive.append(weakref.ref(context))
        ksp.destroy()
    del ksp, context
    gc.collect()
    PETSc.garbage_cleanup()
    assert not any(ref() for ref in alive) and len(hooks._held) <= held
    assert A.getRefCount() == references


# -- what goes wrong -------------------------------------------------------------------------------


def test_an_exception_is_printed_and_ends_the_solve(capfd):
    _, A, b, x = system()
    ksp, context = solver(A, "jacobi")
    context._apply = lambda r, out: 1 / 0
    ksp.solve(b, x)
    assert ksp.getConvergedReason() == FAILED and context.failed
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_a_set_up_that_fails_is_a_reason_and_can_be_mended(capfd):
    _, A, b, x = system()
    A.scale(-1.0)
    ksp, context = solver(A, "ic0")
    ksp.solve(b, x)
    assert ksp.getConvergedReason() == FAILED
    assert "ic0 needs a positive diagonal" in capfd.readouterr().err
    A.scale(-1.0)
    ksp.solve(b, x)
    assert ksp.getConvergedReason() > 0


def test_what_does_not_suit_the_method_is_refused_with_advice(capfd):
    _, A, b, x = system()
    ksp, context = solver(A, "ilu0")
    ksp.solve(b, x)
    assert ksp.getConvergedReason() == FAILED
    assert "not symmetric: use gmres" in capfd.readouterr().err
    ksp.setType("gmres")
    ksp.setPCSide(PETSc.PC.Side.RIGHT)
    ksp.solve(b, x)
    assert ksp.getConvergedReason() > 0
    ksp.setPCSide(PETSc.PC.Side.LEFT)
    context.M.linear = False
    ksp.setType("cg")
    ksp.solve(b, x)
    assert "not linear: use fcg" in capfd.readouterr().err
    ksp.setType("fcg")
    ksp.solve(b, x)
    assert ksp.getConvergedReason() > 0


def test_a_matrix_without_entries_is_refused(capfd):
    class Doubles:
        def mult(self, A, x, y):
            x.copy(y)
            y.scale(2.0)

    A = PETSc.Mat().createPython((4, 4), Doubles(), comm=PETSc.COMM_SELF)
    A.setUp()
    b, x = A.createVecs()
    b.set(1.0)
    ksp, _ = solver(A, "multigrid")
    ksp.solve(b, x)
    assert ksp.getConvergedReason() == FAILED and "type aij" in capfd.readouterr().err
    y, info = kl.cg(A, b)  # products are enough for a method
    assert info.converged and np.allclose(y.getArray(), 0.5)


# -- methods ---------------------------------------------------------------------------------------


def test_operands_of_petsc_just_work():
    P, A, b, _ = system()
    for M in (None, "ic0", kl.IC0(P.A), kl.multigrid(A)):
        x, info = kl.cg(A, b, rtol=1e-10, M=M)
        assert isinstance(x, PETSc.Vec) and info.converged and error(A, b, x) < 1.1e-10
    x, info = kl.cg(A, P.b, rtol=1e-10)
    assert isinstance(x, np.ndarray) and info.converged
    x, info = kl.solve(A, b, rtol=1e-10)
    assert isinstance(x, PETSc.Vec) and info.converged and error(A, b, x) < 1.1e-10
    ksp, _ = solver(A, "ssor")
    ksp.setUp()
    x, info = kl.fgmres(A, b, rtol=1e-10, M=ksp.getPC(), x0=b)
    assert info.converged and error(A, b, x) < 1.1e-10


class Locked(PETSc.Vec):
    """A vector as KSPSolve of later PETScs hands it out: to be read only."""

    def getArray(self, readonly=False):
        assert readonly
        return super().getArray(readonly=True)


Locked.__module__ = PETSc.Vec.__module__


@pytest.mark.parametrize("M", [None, "ssor", "pc"])
def test_a_locked_right_hand_side_is_read(M):
    _, A, b, x = system()
    ksp, _ = solver(A, "jacobi")
    ksp.setUp()
    right, start = Locked().createSeq(b.getSize()), Locked().createSeq(b.getSize())
    b.copy(right)
    solution, info = kl.cg(A, right, x0=start, rtol=1e-10, M=ksp.getPC() if M == "pc" else M)
    assert info.converged and error(A, b, solution) < 1.1e-10
    context = kl.petsc.ksp(solver(A, "jacobi")[0], "gcrodr")
    context.solve(ksp, right, x)
    assert context.info.converged and error(A, b, x) < 1e-9


def test_a_dmda_gives_grid_operators_and_their_multigrid():
    dm = PETSc.DMDA().create(dim=2, sizes=(18, 15), dof=1, stencil_width=1, comm=PETSc.COMM_SELF)
    P = kl.problems.poisson((15, 18))
    A = kl.petsc.from_csr(P.A.tocsr(), PETSc.COMM_SELF)
    A.setDM(dm)
    G = kl.petsc.grid_operator(A)
    assert G.grid.shape == (15, 18) and np.allclose(G @ P.b, P.A @ P.b)
    assert type(kl.multigrid(A)) is kl.GeometricMultigrid
    b, x = A.createVecs()
    b.setArray(P.b)
    ksp, context = solver(A, "multigrid")
    ksp.solve(b, x)
    assert type(context.M) is kl.GeometricMultigrid and ksp.getIterationNumber() <= 12
    y, info = kl.cg(A, b, rtol=1e-10, M=kl.multigrid(A))
    assert info.converged and np.allclose(x.getArray(), y.getArray(), rtol=1e-6)


def test_views_of_values_are_no_copies():
    _, A, _, _ = system()
    entries = kl.petsc.Entries(A)
    before = entries.csr()
    A.scale(2.0)
    after = entries.read(A).csr()
    assert np.shares_memory(before.data, after.data)
    assert np.shares_memory(before.indices, after.indices)  # the pattern has stayed


@pytest.mark.parametrize("name, known", [
    ("gcrodr", "k"), ("recycled_cg", "k"), ("fcg", "truncate")])  # fmt: skip
def test_methods_are_types_with_options(name, known, options, capfd):
    _, A, b, x = system()
    options["k_ksp_type"] = "python"
    class_ = {"gcrodr": "GCRODR", "recycled_cg": "RecycledCG", "fcg": "FCG"}[name]
    options["k_ksp_python_type"] = f"krylearn.petsc.{class_}"
    options[f"k_ksp_{name}_{known}"] = 7
    ksp, _ = solver(A, "jacobi", prefix="k_")
    ksp.setFromOptions()
    counts = []
    for _ in range(2):
        x.set(0.0)
        ksp.solve(b, x)
        counts.append(ksp.getIterationNumber())
        assert ksp.getConvergedReason() > 0 and error(A, b, x) < 1.1e-10
    context = ksp.getPythonContext()
    assert (counts[1] < counts[0]) == context.recycles
    ksp.view()
    shown = capfd.readouterr().out
    assert f"{known} = 7" in shown and ("holds 7 recycled" in shown) == context.recycles


# -- compiled programs and ranks -------------------------------------------------------------------


def environment():
    """Return what a program needs to find this library, and mpirun to run it here."""
    paths = [str(HERE.parent), str(HERE / "petsc"), sysconfig.get_path("purelib")]
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    # More ranks than cores: who waits is to let the others work.
    root["OMPI_MCA_mpi_yield_when_idle"] = "1"
    return {**os.environ, **root, "PYTHONPATH": os.pathsep.join(paths)}


def run(command, ranks=1, timeout=120):
    """Run a program on ranks; return what it printed, to either stream."""
    if ranks > 1:
        if shutil.which("mpirun") is None:
            pytest.skip("PETSc is built without MPI here")
        command = ["mpirun", "--oversubscribe", "-n", str(ranks), *command]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True,
                          timeout=timeout)  # fmt: skip
    return done.stdout, done.stderr


@pytest.fixture(scope="module", params=["poisson.c", "poisson.F90"])
def program(request, tmp_path_factory):
    """Return the command of a compiled program that knows nothing of this library."""
    known = shutil.which("pkg-config") is not None
    if not known or subprocess.run(["pkg-config", "--exists", "PETSc"], check=False).returncode:
        pytest.skip("PETSc has no compilers' flags here: it was built by pip")
    source = HERE / "petsc" / request.param
    target = tmp_path_factory.mktemp("program") / source.stem
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "PETSc"], capture_output=True,
                           text=True, check=True).stdout.split()  # fmt: skip
    compiler = "mpicc" if source.suffix == ".c" else "mpif90"
    subprocess.run([compiler, source, "-o", target, *flags], check=True, capture_output=True)
    return [str(target), "-python", sys.executable]


def test_compiled_programs_solve_by_the_command_line_alone(program):
    preconditioned = [*program, "-ksp_type", "cg", "-pc_type", "python", "-pc_python_type"]
    for ranks, most in ((1, 8), (2, 20)):
        out, err = run([*preconditioned, "krylearn.petsc.Multigrid"], ranks)
        words = out.split()
        assert "norm 1481.68" in out, err
        assert int(words[words.index("iterations,") - 1]) <= most
    out, _ = run([*program, "-ksp_type", "python", "-ksp_python_type", "krylearn.petsc.GCRODR",
                  "-ksp_gcrodr_k", "5", "-pc_type", "bjacobi", "-sub_pc_type", "python",
                  "-sub_pc_python_type", "krylearn.petsc.SSOR", "-ksp_view"])  # fmt: skip
    assert "norm 1481.68" in out and "k = 5" in out and "omega = young (default), now" in out


@pytest.mark.parametrize("program", ["poisson.c"], indirect=True)
@pytest.mark.parametrize("kind", ["pc", "ksp"])
def test_a_name_that_does_not_exist_is_said_in_a_compiled_program(program, kind):
    wrong, right = {"pc": ("Multigird", "Multigrid"), "ksp": ("Gcrodr", "GCRODR")}[kind]
    out, err = run([*program, f"-{kind}_type", "python", f"-{kind}_python_type",
                    f"krylearn.petsc.{wrong}"])  # fmt: skip
    assert "norm" not in out
    assert f"no attribute '{wrong}'; is {right} meant?" in err


def test_a_compiled_program_takes_directions_from_a_network(program):
    if importlib.util.find_spec("krylearn.learned.dcd") is None:
        pytest.skip("there are no networks for directions")
    command = [*program, "-ksp_type", "fcg", "-pc_type", "python", "-pc_python_type",
               "krylearn.petsc.DCD", "-pc_dcd_model", "poisson2d"]  # fmt: skip
    out, err = run(command, 2)  # it has no DMDA: each rank's own block
    assert ("CONVERGED_RTOL" in out or "reason 2 " in out) and "norm 1481.6" in out, err


@pytest.mark.parametrize("program", ["poisson.c"], indirect=True)
@pytest.mark.parametrize("where", ["InApply", "InSetUp"])
def test_a_rank_that_raises_ends_the_run_with_its_message(program, where):
    command = [*program, "-ksp_type", "cg", "-pc_type", "python", "-pc_python_type",
               f"failing.{where}"]  # fmt: skip
    out, err = run(command, 2, timeout=60)
    assert "DIVERGED_PC_FAILED" in out
    assert "rank 1" in err and "ZeroDivisionError: as intended" in err


@pytest.fixture(scope="module")
def on_ranks():
    """Return what `on_ranks.py` found, by the number of ranks."""
    found = {}
    for ranks in (1, 2, 4):
        out, err = run([sys.executable, str(HERE / "petsc" / "on_ranks.py")], ranks)
        assert out, err
        found[ranks] = json.loads(out[out.index("{") : out.rindex("}") + 1])
        assert found[ranks]["ranks"] == ranks
    return found


def test_the_same_answer_on_any_number_of_ranks(on_ranks):
    alone = on_ranks[1]
    for ranks in (2, 4):
        for name, value in on_ranks[ranks].items():
            if isinstance(value, dict):
                assert value["residual"] < 1e-9, name
                close = np.allclose(value["x"], alone[name]["x"], rtol=1e-6, atol=1e-9)
                assert close or name == "auto", name
        for name in ("cg", "fcg", "cr", "gmres", "gcrodr", "recycled_cg", "minres", "lsmr"):
            # The loop is the same, sums differ in the last digits.
            a, b = (found[name]["iterations"] for found in (alone, on_ranks[ranks]))
            assert abs(a - b) <= 2 + 0.02 * a, name
        for name in ("gcrodr", "recycled_cg"):
            counts = on_ranks[ranks][f"ksp {name}"]["iterations"]
            assert counts[1] < counts[0]


def test_geometric_multigrid_is_not_cut_at_the_borders_of_ranks(on_ranks):
    for found in on_ranks.values():
        assert found["dmda lattice"]["iterations"] == on_ranks[1]["dmda lattice"]["iterations"]
    for ranks in (2, 4):
        assert on_ranks[ranks]["dmda lattice"]["kind"] == "GridMultigrid"
        assert on_ranks[ranks]["dmda jumps"]["kind"] == "DistributedMultigrid"
        assert on_ranks[ranks]["dmda jumps"]["iterations"] <= 25


def test_directions_of_a_network_are_not_cut_at_the_borders_of_ranks(on_ranks):
    for ndim in (2, 3):
        for name in ("all", "masked"):
            key = f"network {ndim}-D {name}"
            for found in on_ranks.values():
                assert found[key]["kind"] == "GridDCD"
                assert found[key]["far"] < 2e-6  # its stencils are made in single precision
                assert found[key]["iterations"] == on_ranks[1][key]["iterations"] < 40


def test_the_bandit_decides_alike_on_all_ranks(on_ranks):
    for found in on_ranks.values():
        assert found["alike"] and sum(found["pulls"]) >= 4 and min(found["pulls"][:2]) >= 1


def test_programs_gain_by_options_alone():
    from krylearn.benchmarks import petsc as bench

    size, runs = ["-n", "32"], {}
    for name in ("gmres(40)", "GCRODR(40, 20)"):
        command = ["diffusion.py", *size, "-loads", "3", *bench.DIFFUSION[name].split()]
        runs[name] = bench.launch(command, 1)
    gmres, recycled = runs.values()
    assert recycled["iterations"] < 0.7 * gmres["iterations"]
    assert np.isclose(recycled["norm"], gmres["norm"], rtol=1e-6)
    for name in ("cg, SSOR, omega 1", "cg, SSOR, omega tsallis"):
        runs[name] = bench.launch(["heat.py", *size, *bench.HEAT[name].split()], 1)
    fixed, learned = list(runs.values())[2:]
    assert learned["iterations"] < 0.9 * fixed["iterations"]
    assert np.isclose(learned["norm"], fixed["norm"], rtol=1e-6)


def test_what_holds_on_ranks(on_ranks):
    for ranks, found in on_ranks.items():
        assert np.allclose(found["tiny"], np.array([1.5, 2.0, 1.5]) / 16)
        assert found["b = nan"] == "NONFINITE_RHS" and found["b = 0.0"] == "CONVERGED"
        assert "not symmetric" in found["refusal"]
        solved, x = found["tall 0.0"][0], found["tall 0.0"][1:]
        assert solved == 1 and np.allclose(x, on_ranks[1]["tall 0.0"][1:], rtol=1e-6)
        assert found["tall 1.0"][0] == FAILED
        if ranks > 1:
            assert found["threads"] == 1
            assert "krylearn.petsc.FCG" in found["dcd refuses"]
            assert "kl.petsc.pc" in found["ic0 refuses"]


def test_a_program_of_two_ranks_makes_a_data_set(tmp_path):
    command = [sys.executable, "-m", "krylearn.cli", "generate", "darcy", "--samples", "600",
               "--grid", "8", "--solver", "batch", "--workers", "1", "--out"]  # fmt: skip
    one, two = tmp_path / "one.h5", tmp_path / "two.h5"
    run([*command, str(two), "--shards", "auto"], 2)
    assert {path.name for path in tmp_path.glob("*of2")} == {"two.h5.0of2", "two.h5.1of2"}
    run([*command, str(two)])  # joins them
    run([*command, str(one)])
    assert one.read_bytes() == two.read_bytes() and not list(tmp_path.glob("*of2"))


def test_a_benchmark_that_names_no_row_is_refused(tmp_path):
    from krylearn.benchmarks import petsc as bench

    with pytest.raises(ValueError, match=r"no row's name holds 'heat\*'"):
        bench.run(tmp_path / "p.json", only="heat*")
    assert not list(tmp_path.iterdir())
