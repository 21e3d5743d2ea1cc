/* Poisson's equation on a square, solved several times as the command line says. */
#include <petscksp.h>

int main(int argc, char **argv)
{
  Mat A;
  Vec x, b;
  KSP ksp;
  PetscInt n = 32, solves = 1, low, high, row, its, s;
  PetscReal norm;
  KSPConvergedReason why;

  PetscCall(PetscInitialize(&argc, &argv, NULL, NULL));
  PetscCall(PetscOptionsGetInt(NULL, NULL, "-n", &n, NULL));
  PetscCall(PetscOptionsGetInt(NULL, NULL, "-solves", &solves, NULL));
  PetscCall(MatCreateAIJ(PETSC_COMM_WORLD, PETSC_DECIDE, PETSC_DECIDE, n * n, n * n, 5, NULL, 5,
                         NULL, &A));
  PetscCall(MatGetOwnershipRange(A, &low, &high));
  for (row = low; row < high; row++) {
    PetscInt i = row / n, j = row % n;
    if (i > 0) PetscCall(MatSetValue(A, row, row - n, -1.0, INSERT_VALUES));
    if (i < n - 1) PetscCall(MatSetValue(A, row, row + n, -1.0, INSERT_VALUES));
    if (j > 0) PetscCall(MatSetValue(A, row, row - 1, -1.0, INSERT_VALUES));
    if (j < n - 1) PetscCall(MatSetValue(A, row, row + 1, -1.0, INSERT_VALUES));
    PetscCall(MatSetValue(A, row, row, 4.0, INSERT_VALUES));
  }
  PetscCall(MatAssemblyBegin(A, MAT_FINAL_ASSEMBLY));
  PetscCall(MatAssemblyEnd(A, MAT_FINAL_ASSEMBLY));
  PetscCall(MatCreateVecs(A, &x, &b));
  PetscCall(VecSet(b, 1.0));
  PetscCall(KSPCreate(PETSC_COMM_WORLD, &ksp));
  PetscCall(KSPSetOperators(ksp, A, A));
  PetscCall(KSPSetFromOptions(ksp));
  for (s = 0; s < solves; s++) {
    if (s > 0) PetscCall(MatScale(A, 2.0));
    PetscCall(KSPSolve(ksp, b, x));
    PetscCall(KSPGetConvergedReason(ksp, &why));
    PetscCall(KSPGetIterationNumber(ksp, &its));
    PetscCall(VecNorm(x, NORM_2, &norm));
    PetscCall(PetscPrintf(PETSC_COMM_WORLD, "%s after %d iterations, norm %.10g\n",
                          KSPConvergedReasons[why], (int)its, (double)norm));
  }
  PetscCall(KSPDestroy(&ksp));
  PetscCall(MatDestroy(&A));
  PetscCall(VecDestroy(&x));
  PetscCall(VecDestroy(&b));
  return PetscFinalize();
}
