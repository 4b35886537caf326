(* Equation 2 of "Unpacking Softmax" (arXiv 2506.01562): the norm of the product of two layers lies
   between two sums over their singular values.

   W^T W = V diag(a) V^T and A A^T = U diag(b) U^T with orthogonal V, U and squares a, b of the
   singular values in descending order.  Then
   sum_i a_i b_{d+1-i} <= ||W A||_F^2 = sum_ij a_i <v_i, u_j>^2 b_j <= sum_i a_i b_i. *)

Set Warnings "-notation-overridden,-ambiguous-paths".
From mathcomp Require Import all_ssreflect all_algebra.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Majorisation.
Variable F : realFieldType.

Lemma regroup (p q w t : F) : p + t + w = q + w + (t + (p - q)).
Proof.
by rewrite [t + _]addrCA [q + w]addrC addrACA [q + _]addrCA subrr addr0 [w + p]addrC addrAC.
Qed.

(* Summation by parts. *)
Lemma by_parts (a z : nat -> F) n :
  \sum_(i < n.+1) a i * z i
  = a n * (\sum_(i < n.+1) z i) + \sum_(k < n) (a k - a k.+1) * (\sum_(i < k.+1) z i).
Proof.
elim: n => [|n IH]; first by rewrite !big_ord_recr !big_ord0 /= !add0r addr0.
rewrite big_ord_recr /= IH [X in _ = a n.+1 * X + _]big_ord_recr [X in _ = _ + X]big_ord_recr /=.
by rewrite mulrDr mulrBl -regroup.
Qed.

(* If a descends and the partial sums of x are at most those of y, with equal totals, so is the sum
   weighted by a. *)
Lemma majorised (a x y : nat -> F) n :
  (forall k, a k.+1 <= a k) ->
  (forall k, (k < n)%N -> \sum_(i < k.+1) x i <= \sum_(i < k.+1) y i) ->
  \sum_(i < n.+1) x i = \sum_(i < n.+1) y i ->
  \sum_(i < n.+1) a i * x i <= \sum_(i < n.+1) a i * y i.
Proof.
move=> desc part total; rewrite !by_parts total ler_add2l.
apply: ler_sum => k _; apply: ler_wpmul2l; first by rewrite subr_ge0.
exact: part.
Qed.

(* The k largest numbers b bound any sum of b with weights in [0, 1] that add up to k. *)
Lemma heaviest (b c : nat -> F) n k :
  (forall j, b j.+1 <= b j) -> (forall j, 0 <= c j <= 1) ->
  (k <= n)%N -> \sum_(j < n) c j = k%:R ->
  \sum_(j < n) c j * b j <= \sum_(j < k) b j.
Proof.
move=> desc weight kn total.
case: k kn total => [|k] kn total.
  rewrite big_ord0 big1 // => j _.
  have /eqP := total; rewrite psumr_eq0 => [/allP/(_ j)|i _]; last by case/andP: (weight i).
  by rewrite mem_index_enum /= => /(_ isT)/eqP ->; rewrite mul0r.
have mono i j : (i <= j)%N -> b j <= b i.
  elim: j => [|j IH]; first by rewrite leqn0 => /eqP ->.
  rewrite leq_eqVlt => /orP[/eqP -> //|]; rewrite ltnS => /IH; exact: le_trans.
pose B := b k.
have shift : \sum_(j < n) c j * (b j - B) <= \sum_(j < n | (j < k.+1)%N) (b j - B).
  rewrite [X in _ <= X]big_mkcond /=; apply: ler_sum => j _.
  have /andP[c0 c1] := weight j.
  case: ifP => [jk|/negbT]; first by rewrite ler_pimull // subr_ge0 mono.
  by rewrite -leqNgt => kj; rewrite mulr_ge0_le0 // subr_le0 mono // ltnW.
have -> : \sum_(j < n) c j * b j = \sum_(j < n) c j * (b j - B) + k.+1%:R * B.
  rewrite -total mulr_suml -big_split /=; apply: eq_bigr => j _.
  by rewrite mulrBr subrK.
have -> : \sum_(j < k.+1) b j = \sum_(j < k.+1) (b j - B) + k.+1%:R * B.
  by rewrite sumrB sumr_const card_ord mulr_natl subrK.
rewrite ler_add2r; apply: (le_trans shift).
by rewrite (big_ord_widen_cond n xpredT (fun j => b j - B)).
Qed.
End Majorisation.

Section DoublyStochastic.
Variables (F : realFieldType) (n : nat) (a b : nat -> F) (q : nat -> nat -> F).
Hypothesis a_descends : forall k, a k.+1 <= a k.
Hypothesis q_ge0 : forall i j, 0 <= q i j.
Hypothesis row_sum : forall i, \sum_(j < n.+1) q i j = 1.
Hypothesis column_sum : forall j, \sum_(i < n.+1) q i j = 1.

Lemma mixed_le : (forall k, b k.+1 <= b k) ->
  \sum_(i < n.+1) a i * (\sum_(j < n.+1) q i j * b j) <= \sum_(i < n.+1) a i * b i.
Proof.
move=> b_descends.
have swap k : \sum_(i < k) (\sum_(j < n.+1) q i j * b j)
    = \sum_(j < n.+1) (\sum_(i < k) q i j) * b j.
  by rewrite exchange_big /=; apply: eq_bigr => j _; rewrite mulr_suml.
apply: (majorised (x := fun i => \sum_(j < n.+1) q i j * b j) a_descends) => [k kn|]; last first.
  by rewrite swap; apply: eq_bigr => j _; rewrite column_sum mul1r.
rewrite swap; apply: (heaviest (c := fun j => \sum_(i < k.+1) q i j) b_descends) => [j||].
- rewrite sumr_ge0 //= -(column_sum j).
  rewrite (big_ord_widen n.+1 (fun i => q i j)); last by rewrite ltnS ltnW.
  by rewrite big_mkcond /=; apply: ler_sum => i _; case: ifP.
- by rewrite ltnS ltnW.
- by rewrite exchange_big /= (eq_bigr (fun=> 1)) => [|i _]; rewrite ?sumr_const ?card_ord ?row_sum.
Qed.
End DoublyStochastic.

(* The squares of an orthogonal matrix are doubly stochastic. *)
Lemma row_squares (F : realFieldType) n (P : 'M[F]_n) :
  P *m P^T = 1%:M -> forall i, \sum_j P i j ^+ 2 = 1.
Proof.
move=> orthogonal i; have := congr1 (fun M : 'M_n => M i i) orthogonal; rewrite !mxE eqxx => one.
by apply: etrans one; apply: eq_bigr => j _; rewrite mxE expr2.
Qed.

Lemma column_squares (F : realFieldType) n (P : 'M[F]_n) :
  P^T *m P = 1%:M -> forall j, \sum_i P i j ^+ 2 = 1.
Proof.
move=> orthogonal j; have := congr1 (fun M : 'M_n => M j j) orthogonal; rewrite !mxE eqxx => one.
by apply: etrans one; apply: eq_bigr => i _; rewrite mxE expr2.
Qed.

Section Norm.
Variables (F : realFieldType) (c n m : nat).
Let d := n.+1.
Variables (W : 'M[F]_(c, d)) (A : 'M[F]_(d, m)) (V U : 'M[F]_d) (a b : nat -> F).
Hypothesis V_orthogonal : V *m V^T = 1%:M.
Hypothesis U_orthogonal : U *m U^T = 1%:M.
Hypothesis W_squared : W^T *m W = V *m diag_mx (\row_i a i) *m V^T.
Hypothesis A_squared : A *m A^T = U *m diag_mx (\row_j b j) *m U^T.
(* Squares of singular values, of which only those below d count. *)
Hypothesis a_descends : forall k, a k.+1 <= a k.
Hypothesis b_descends : forall k, b k.+1 <= b k.

Definition norm_squared p r (M : 'M[F]_(p, r)) : F := \sum_i \sum_j M i j ^+ 2.
(* <v_i, u_j> *)
Definition overlap : 'M[F]_d := V^T *m U.

Lemma norm_is_trace p r (M : 'M[F]_(p, r)) : norm_squared M = \tr (M^T *m M).
Proof.
rewrite /mxtrace /norm_squared exchange_big /=; apply: eq_bigr => j _; rewrite mxE.
by apply: eq_bigr => i _; rewrite mxE expr2.
Qed.

Theorem norm_by_overlaps :
  norm_squared (W *m A) = \sum_(i < d) a i * (\sum_(j < d) overlap i j ^+ 2 * b j).
Proof.
have cyclic : \tr ((W *m A)^T *m (W *m A)) = \tr (W^T *m W *m (A *m A^T)).
  by rewrite trmx_mul -(mulmxA A^T) mxtrace_mulC !mulmxA.
have turned : \tr (V *m diag_mx (\row_i a i) *m V^T *m (U *m diag_mx (\row_j b j) *m U^T))
    = \tr (diag_mx (\row_i a i) *m (overlap *m diag_mx (\row_j b j) *m overlap^T)).
  rewrite -(mulmxA (V *m _)) -(mulmxA V) mxtrace_mulC /overlap trmx_mul trmxK.
  by rewrite !mulmxA.
rewrite norm_is_trace cyclic W_squared A_squared turned.
rewrite /mxtrace; apply: eq_bigr => i _; rewrite mul_diag_mx !mxE; congr (_ * _).
apply: eq_bigr => j _; rewrite mul_mx_diag !mxE.
by rewrite mulrAC expr2.
Qed.

Let q (i j : nat) : F := overlap (inord i) (inord j) ^+ 2.

Lemma q_ge0 i j : 0 <= q i j.
Proof. exact: sqr_ge0. Qed.

Lemma q_rows i : \sum_(j < d) q i j = 1.
Proof.
have rows : overlap *m overlap^T = 1%:M.
  rewrite /overlap trmx_mul trmxK mulmxA -(mulmxA V^T) U_orthogonal mulmx1.
  exact: mulmx1C.
rewrite -(row_squares rows (inord i)); apply: eq_bigr => j _.
by rewrite /q inord_val.
Qed.

Lemma q_columns j : \sum_(i < d) q i j = 1.
Proof.
have columns : overlap^T *m overlap = 1%:M.
  rewrite /overlap trmx_mul trmxK mulmxA -(mulmxA U^T) V_orthogonal mulmx1.
  exact: mulmx1C.
rewrite -(column_squares columns (inord j)); apply: eq_bigr => i _.
by rewrite /q inord_val.
Qed.

Lemma norm_by_q :
  norm_squared (W *m A) = \sum_(i < d) a i * (\sum_(j < d) q i j * b j).
Proof.
rewrite norm_by_overlaps; apply: eq_bigr => i _; congr (_ * _); apply: eq_bigr => j _.
by rewrite /q !inord_val.
Qed.

Theorem norm_le : norm_squared (W *m A) <= \sum_(i < d) a i * b i.
Proof. by rewrite norm_by_q; apply: mixed_le; [|exact: q_ge0|exact: q_rows|exact: q_columns|]. Qed.

(* The upper bound for -b in ascending order. *)
Theorem norm_ge : \sum_(i < d) a i * b (n - i)%N <= norm_squared (W *m A).
Proof.
have flip f : \sum_(j < d) f (n - j)%N = \sum_(j < d) f j :> F.
  by rewrite (reindex_inj rev_ord_inj) /=; apply: eq_bigr => j _; rewrite subSS subKn // -ltnS.
have := @mixed_le F n a (fun j => - b (n - j)%N) (fun i j => q i (n - j)%N) a_descends.
move=> /(_ (fun i j => q_ge0 i _)) /(_ (fun i => etrans (flip (q i)) (q_rows i))).
move=> /(_ (fun j => q_columns _)) bound.
have mixed : \sum_(i < d) a i * (\sum_(j < d) q i (n - j) * - b (n - j)%N)
    = - \sum_(i < d) a i * (\sum_(j < d) q i j * b j).
  rewrite -sumrN; apply: eq_bigr => i _; rewrite -mulrN -sumrN; congr (_ * _).
  by rewrite -(flip (fun j => - (q i j * b j))); apply: eq_bigr => j _; rewrite mulrN.
have crossed : \sum_(i < d) a i * - b (n - i)%N = - \sum_(i < d) a i * b (n - i)%N.
  by rewrite -sumrN; apply: eq_bigr => i _; rewrite mulrN.
rewrite -ler_opp2 norm_by_q -mixed -crossed; apply: bound => j; rewrite ler_opp2.
case: (ltnP j n) => [jn|nj]; first by rewrite -(subnSK jn).
have -> : (n - j.+1 = 0)%N by apply/eqP; rewrite subn_eq0 leqW.
by have -> : (n - j = 0)%N by apply/eqP; rewrite subn_eq0.
Qed.

(* The upper bound is attained where the singular directions are aligned. *)
Theorem aligned : V = U -> norm_squared (W *m A) = \sum_(i < d) a i * b i.
Proof.
move=> VU; rewrite norm_by_overlaps; apply: eq_bigr => i _; congr (_ * _).
have -> : overlap = 1%:M by rewrite /overlap VU; apply: mulmx1C.
rewrite (bigD1 i) //= mxE eqxx expr1n mul1r big1 ?addr0 // => j ji.
by rewrite mxE eq_sym (negbTE ji) expr0n mul0r.
Qed.
End Norm.

Print Assumptions norm_by_overlaps.
Print Assumptions norm_le.
Print Assumptions norm_ge.
Print Assumptions aligned.
