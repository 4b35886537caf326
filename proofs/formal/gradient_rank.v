(* Equation 3 of "Unpacking Softmax": the gradient of a linear layer's weight has at most the rank of
   the layer's input, and at most that of the gradient of its output.

   Z = W A for n inputs A (m x n). For any loss of Z with gradient D = dL/dZ, the gradient in W is
   D A^T, since the loss changes by tr(D^T dW A) = tr((D A^T)^T dW). *)

Set Warnings "-notation-overridden,-ambiguous-paths".
From mathcomp Require Import all_ssreflect all_algebra.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory.
Local Open Scope ring_scope.

Section Gradient.
Variables (F : fieldType) (o m n : nat).
Variables (A : 'M[F]_(m, n)) (D : 'M[F]_(o, n)).

Definition gradient : 'M[F]_(o, m) := D *m A^T.

(* The linear change of the loss is the inner product with the gradient, for every change dW. *)
Theorem gradient_is_dual (dW : 'M[F]_(o, m)) :
  \tr (D^T *m (dW *m A)) = \tr (gradient^T *m dW).
Proof. by rewrite /gradient trmx_mul trmxK mulmxA mxtrace_mulC mulmxA. Qed.

Theorem gradient_rank_le_input : (\rank gradient <= \rank A)%N.
Proof. by rewrite /gradient -(mxrank_tr A) mxrankM_maxr. Qed.

Theorem gradient_rank_le_output : (\rank gradient <= \rank D)%N.
Proof. by rewrite /gradient mxrankM_maxl. Qed.

End Gradient.

Print Assumptions gradient_rank_le_input.
