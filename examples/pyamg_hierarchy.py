"""
A hierarchy of pyamg, on the GPU where there is one
===================================================

`kl.from_pyamg` takes a multigrid hierarchy that pyamg has built and runs its cycle with our
kernels, on all cores; `kl.to_cuda` carries it to a CUDA device.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

import krylearn as kl
from krylearn.cuda.arrays import NoCUDA

plt.style.use("tableau-colorblind10")
SIDE = 512 if "--large" in sys.argv else 96
try:
    import pyamg
except ImportError:
    sys.exit("this example needs pyamg: pip install pyamg")

P = kl.problems.diffusion((SIDE, SIDE), contrast=1e4, seed=2)
A = P.A.tocsr()
hierarchy = pyamg.ruge_stuben_solver(A)
M = kl.from_pyamg(hierarchy)
print(M)

# %%
# One cycle of theirs and one of ours are the same map, but for rounding.

theirs = hierarchy.aspreconditioner() @ P.b
ours = M @ P.b
print(f"difference {np.linalg.norm(ours - theirs) / np.linalg.norm(theirs):.1e}")

# %%
# In a Krylov method, here or on the device.

x, info = kl.cg(A, P.b, rtol=1e-8, M=M)
print(f"CPU:  {info!r}")
try:
    y, record = kl.cg(kl.to_cuda(A), kl.to_cuda(P.b), rtol=1e-8, M=kl.to_cuda(M))
    print(f"CUDA: {record!r}")
except NoCUDA as error:
    print(f"CUDA: left out, {error}")

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
left.imshow(np.log10(P.params["coefficient"]).T if "coefficient" in P.params else
            x.reshape(SIDE, SIDE).T, origin="lower", cmap="cividis")  # fmt: skip
left.set(title="log10 of the coefficient", xticks=[], yticks=[])
plain = kl.cg(A, P.b, rtol=1e-8, M="jacobi")[1]
right.semilogy(plain.residuals / np.linalg.norm(P.b), label="Jacobi")
right.semilogy(info.residuals / np.linalg.norm(P.b), "o-", markersize=4, label="pyamg's hierarchy")
right.set(xlabel="iteration of cg", ylabel="relative residual")
right.legend()
plt.show()
