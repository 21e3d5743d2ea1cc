! Poisson's equation on a square, solved as the command line says.
program poisson
#include <petsc/finclude/petscksp.h>
  use petscksp
  implicit none
  Mat :: A
  Vec :: x, b
  KSP :: solver
  PetscInt :: n, low, high, row, i, j, its
  PetscScalar :: four, minus
  PetscReal :: norm
  PetscMPIInt :: rank
  PetscErrorCode :: ierr
  KSPConvergedReason :: why

  n = 32; four = 4.0; minus = -1.0
  call PetscInitialize(ierr)
  call MPI_Comm_rank(PETSC_COMM_WORLD, rank, ierr)
  call MatCreateAIJ(PETSC_COMM_WORLD, PETSC_DECIDE, PETSC_DECIDE, n*n, n*n, 5, &
                    PETSC_NULL_INTEGER, 5, PETSC_NULL_INTEGER, A, ierr)
  call MatGetOwnershipRange(A, low, high, ierr)
  do row = low, high - 1
    i = row / n; j = mod(row, n)
    if (i > 0) call MatSetValue(A, row, row - n, minus, INSERT_VALUES, ierr)
    if (i < n - 1) call MatSetValue(A, row, row + n, minus, INSERT_VALUES, ierr)
    if (j > 0) call MatSetValue(A, row, row - 1, minus, INSERT_VALUES, ierr)
    if (j < n - 1) call MatSetValue(A, row, row + 1, minus, INSERT_VALUES, ierr)
    call MatSetValue(A, row, row, four, INSERT_VALUES, ierr)
  end do
  call MatAssemblyBegin(A, MAT_FINAL_ASSEMBLY, ierr)
  call MatAssemblyEnd(A, MAT_FINAL_ASSEMBLY, ierr)
  call MatCreateVecs(A, x, b, ierr)
  call VecSet(b, -minus, ierr)
  call KSPCreate(PETSC_COMM_WORLD, solver, ierr)
  call KSPSetOperators(solver, A, A, ierr)
  call KSPSetFromOptions(solver, ierr)
  call KSPSolve(solver, b, x, ierr)
  call KSPGetConvergedReason(solver, why, ierr)
  call KSPGetIterationNumber(solver, its, ierr)
  call VecNorm(x, NORM_2, norm, ierr)
  if (rank == 0) print '(a,i0,a,i0,a,f0.6)', 'reason ', why, ' after ', its, ' iterations, norm ', norm
  call KSPDestroy(solver, ierr)
  call MatDestroy(A, ierr)
  call VecDestroy(x, ierr)
  call VecDestroy(b, ierr)
  call PetscFinalize(ierr)
end program poisson
