(* The equality cases of Proposition 3.1 of "Unpacking Softmax" (arXiv 2506.01562), machine-checked.

   S is square, its columns are probability vectors, G = S^T S, R_i = sum_{j != i} G_ij and
   r = max_i R_i.  The proposition bounds the singular values of S (roots of eigenvalues of G):
   0 <= sigma_1 - sigma_n <= sqrt(1 + r) - sqrt(max(1/n - r, 0)).

   left_side: all singular values are equal exactly if S is a permutation matrix.
   right_side: for n >= 2 the right side is attained exactly if m >= 2 columns are the same one-hot
   vector e_k, all other columns have a zero k-th entry, and all R_i <= m - 1. *)

Set Warnings "-notation-overridden,-ambiguous-paths".
From mathcomp Require Import all_ssreflect all_fingroup all_algebra.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Sums.
Variables (R : ringType) (n : nat).

Lemma sum1 (F : 'I_n -> R) l : (forall m, m != l -> F m = 0) -> \sum_m F m = F l.
Proof. by move=> z; rewrite (bigD1 l) //= big1 ?addr0. Qed.

Lemma sum2 (F : 'I_n -> R) i j : i != j ->
  (forall m, m != i -> m != j -> F m = 0) -> \sum_m F m = F i + F j.
Proof.
move=> ij z; rewrite (bigD1 i) //= (bigD1 j) 1?eq_sym //= big1 ?addr0 // => m /andP[mi mj].
exact: z.
Qed.

End Sums.

Section Columns.
Variables (R : rcfType) (n : nat).
Variable S : 'M[R]_n.
Hypothesis S_ge0 : forall k j, 0 <= S k j.
Hypothesis S_sum : forall j, \sum_k S k j = 1.

(* G = S^T S, overlap i = R_i, and their bounds. *)
Load "columns".

(* The columns that are e_k. *)
Definition copies k : {set 'I_n} := [set j | S k j == 1].

Lemma overlap_ge0 i : 0 <= overlap i.
Proof. by rewrite sumr_ge0 // => j _; rewrite G_ge0. Qed.

(* 1 - ||s_i||^2 is a sum of terms >= 0. *)
Lemma diag_gap i : 1 - G i i = \sum_k S k i * (1 - S k i).
Proof.
by rewrite -{1}(S_sum i) G_E -sumrB; apply: eq_bigr => k _; rewrite mulrBr mulr1.
Qed.

Lemma gap_ge0 k i : 0 <= S k i * (1 - S k i).
Proof. by rewrite mulr_ge0 // subr_ge0 S_le1. Qed.

(* A column of norm 1 has entries 0 and 1 only. *)
Lemma zero_or_one k i : G i i = 1 -> S k i = 0 \/ S k i = 1.
Proof.
move=> d1; have z : \sum_k S k i * (1 - S k i) = 0 by rewrite -diag_gap d1 subrr.
have /(_ k isT)/eqP := psumr_eq0P (fun k _ => gap_ge0 k i) z.
by rewrite mulf_eq0 subr_eq0 eq_sym => /orP[] /eqP; [left | right].
Qed.

Lemma has_positive_entry j : exists k, 0 < S k j.
Proof.
apply/existsP; apply: contraT; rewrite negb_exists => /forallP h.
have : \sum_k S k j = 0.
  by apply: big1 => k _; apply/eqP; move: (h k); rewrite lt_neqAle S_ge0 andbT negbK eq_sym.
by rewrite S_sum => /eqP; rewrite oner_eq0.
Qed.

Lemma one_hot k j l : S k j = 1 -> l != k -> S l j = 0.
Proof.
move=> e lk; have := S_sum j; rewrite (bigD1 k) //= e => /(canRL (addKr _)); rewrite addNr => z.
exact: (psumr_eq0P (fun l _ => S_ge0 l j) z).
Qed.

(* The inner product with e_k is the k-th entry. *)
Lemma G_one_hot k i j : S k i = 1 -> G i j = S k j.
Proof.
move=> e; rewrite G_E (bigD1 k) //= e mul1r big1 ?addr0 // => l lk.
by rewrite (one_hot e lk) mul0r.
Qed.

(* Orthogonal columns have disjoint supports. Some row f(j) is in the support of column j, so f is
   injective, hence a permutation, and no other row is in that support. *)
Lemma orthogonal_columns :
  (forall i j, i != j -> G i j = 0) -> exists s : 'S_n, S = perm_mx s.
Proof.
move=> orth.
have disjoint k i j : i != j -> 0 < S k i -> S k j = 0.
  move=> ij pos; have z := orth _ _ ij; rewrite G_E in z.
  have /(_ k isT)/eqP := psumr_eq0P (fun k _ => mulr_ge0 (S_ge0 k i) (S_ge0 k j)) z.
  by rewrite mulf_eq0 gt_eqF //= => /eqP.
have [f fpos] := fin_all_exists has_positive_entry.
have f_inj : injective f.
  move=> i j e; apply/eqP; apply: contraT => ij.
  by have := fpos j; rewrite -e (disjoint _ _ _ ij (fpos i)) ltxx.
pose p := perm f_inj; exists p^-1%g; apply/matrixP => k j; rewrite !mxE.
have zero l : l != f j -> S l j = 0.
  have fp : f (p^-1%g l) = l by rewrite -(permE f_inj) permKV.
  move=> lj; apply: (disjoint _ (p^-1%g l)); last by have := fpos (p^-1%g l); rewrite fp.
  by apply: contra lj => /eqP <-; rewrite fp.
have -> : (p^-1%g k == j) = (k == f j).
  by rewrite -(inj_eq (@perm_inj _ p)) permKV permE.
have [->|kj] := eqVneq; last exact: zero.
by have := S_sum j; rewrite (bigD1 (f j)) //= big1 ?addr0.
Qed.

Lemma norm_of_permutation (s : 'S_n) (x : 'rV[R]_n) :
  S = perm_mx s -> \sum_k (\sum_j S k j * x 0 j) ^+ 2 = \sum_i x 0 i ^+ 2.
Proof.
move=> ->; rewrite [RHS](reindex_inj (@perm_inj _ s)) /=; apply: eq_bigr => k _.
rewrite (bigD1 (s k)) //= big1 ?addr0 => [|j jk]; first by rewrite !mxE eqxx mul1r.
by rewrite !mxE eq_sym (negbTE jk) mul0r.
Qed.

(* ||S x||^2 / ||x||^2 ranges from sigma_n^2 to sigma_1^2, so these are equal exactly if it is constant.
   Its values at e_i, e_j and e_i + e_j give G_ij = 0. *)
Theorem left_side :
  (exists a, forall x : 'rV[R]_n, \sum_k (\sum_j S k j * x 0 j) ^+ 2 = a * \sum_i x 0 i ^+ 2)
  <-> exists s : 'S_n, S = perm_mx s.
Proof.
split=> [[a h]|[s e]]; last by exists 1 => x; rewrite mul1r (norm_of_permutation x e).
apply: orthogonal_columns => i j ij.
have at_e l : \sum_k S k l ^+ 2 = a.
  pose x : 'rV[R]_n := delta_mx 0 l.
  have := h x; rewrite (sum1 (F := fun m => x 0 m ^+ 2) (l := l)) => [|m ml]; last first.
    by rewrite mxE (negbTE ml) andbF expr0n.
  rewrite mxE !eqxx expr1n mulr1 => <-; apply: eq_bigr => k _; congr (_ ^+ 2).
  rewrite (sum1 (l := l)) => [|m ml]; first by rewrite mxE !eqxx mulr1.
  by rewrite mxE (negbTE ml) andbF mulr0.
have at_sum : \sum_k (S k i + S k j) ^+ 2 = a *+ 2.
  pose x : 'rV[R]_n := delta_mx 0 i + delta_mx 0 j.
  have := h x; rewrite (sum2 (F := fun m => x 0 m ^+ 2) ij) => [|m mi mj]; last first.
    by rewrite !mxE (negbTE mi) (negbTE mj) !andbF addr0 expr0n.
  rewrite !mxE !eqxx (negbTE ij) eq_sym (negbTE ij) /= !(addr0, add0r) expr1n.
  rewrite -[1 + 1]/(2%:R) mulr_natr => <-; apply: eq_bigr => k _; congr (_ ^+ 2).
  rewrite (sum2 ij) => [|m mi mj]; last first.
    by rewrite !mxE (negbTE mi) (negbTE mj) !andbF addr0 mulr0.
  by rewrite !mxE !eqxx (negbTE ij) eq_sym (negbTE ij) /= !(addr0, add0r) !mulr1.
move: at_sum; under eq_bigr do rewrite sqrrD.
rewrite big_split big_split /= !at_e addrAC -mulr2n -[RHS]addr0 => /addrI/eqP.
by rewrite sumrMnl -G_E mulrn_eq0 => /eqP.
Qed.

(* The moduli y of an eigenvector, the largest of them y_i, and Gershgorin's bound in row i. *)
Lemma largest_coordinate c : eigenvalue G c ->
  exists (y : 'I_n -> R) (i : 'I_n),
    [/\ 0 < y i, forall j, 0 <= y j <= y i,
        forall l, `|c| * y l <= \sum_j G l j * y j & G i i * y i - c * y i <= overlap i * y i].
Proof.
case/eigenvalueP => x e nz.
have [i0 nz0] : exists i, x 0 i != 0.
  apply/existsP; apply: contraT; rewrite negb_exists => /forallP h.
  by case/eqP: nz; apply/rowP => i; rewrite mxE; apply/eqP; rewrite -[_ == _]negbK h.
pose y j := `|x 0 j|.
have [i ymax] : exists i, forall j, y j <= y i.
  by have [i _ top] := @arg_maxP _ _ _ i0 xpredT y isT; exists i => j; apply: top.
have coordinate l : c * x 0 l = \sum_j G l j * x 0 j.
  have -> : c * x 0 l = (x *m G) 0 l by rewrite e mxE.
  by rewrite mxE; apply: eq_bigr => j _; rewrite G_sym mulrC.
have modulus l (P : pred 'I_n) : `|\sum_(j | P j) G l j * x 0 j| <= \sum_(j | P j) G l j * y j.
  apply: (le_trans (ler_norm_sum _ _ _)); apply: ler_sum => j _.
  by rewrite normrM (ger0_norm (G_ge0 l j)).
exists y, i; split.
- by apply: lt_le_trans (ymax i0); rewrite normr_gt0.
- by move=> j; rewrite normr_ge0 ymax.
- by move=> l; rewrite -normrM coordinate modulus.
have -> : overlap i * y i = \sum_(j | j != i) G i j * y i by rewrite mulr_suml.
apply: (@le_trans _ _ (\sum_(j | j != i) G i j * y j)); last first.
  by apply: ler_sum => j _; rewrite ler_wpmul2l ?G_ge0 ?ymax.
apply: le_trans (modulus i _).
have -> : \sum_(j | j != i) G i j * x 0 j = c * x 0 i - G i i * x 0 i.
  by rewrite coordinate [in RHS](bigD1 i) //= addrAC subrr add0r.
rewrite -!mulrBl normrM distrC; apply: ler_wpmul2r; first exact: normr_ge0.
exact: ler_norm.
Qed.

End Columns.

Section RightSide.
Variables (R : rcfType) (n : nat).
Hypothesis n_ge2 : (2 <= n)%N.
Variable S : 'M[R]_n.
Hypothesis S_ge0 : forall k j, 0 <= S k j.
Hypothesis S_sum : forall j, \sum_k S k j = 1.
Variable r : R.
Hypothesis overlap_le : forall i, overlap S i <= r.
Hypothesis overlap_eq : exists i, overlap S i = r.

Lemma r_ge0 : 0 <= r.
Proof. by case: overlap_eq => i <-; rewrite overlap_ge0. Qed.

Lemma r1_gt0 : 0 < 1 + r.
Proof. by rewrite ltr_paddr ?r_ge0 ?ltr01. Qed.

(* Equality in Gershgorin's bound: (1 - G_ii) y_i, (r - R_i) y_i and all G_ij (y_i - y_j) are >= 0 and
   add up to at most 0, so each of them is 0. *)
Lemma equality_in_row y i : 0 < y i -> (forall j, y j <= y i) ->
  (1 + r) * y i <= \sum_j G S i j * y j ->
  [/\ G S i i = 1, overlap S i = r & forall j, 0 < G S i j -> y j = y i].
Proof.
move=> pos ymax h.
have t j : 0 <= G S i j * (y i - y j) by rewrite mulr_ge0 ?G_ge0 // subr_ge0.
have t1 : 0 <= (1 - G S i i) * y i by rewrite mulr_ge0 ?(ltW pos) // subr_ge0 diag_le1.
have t2 : 0 <= (r - overlap S i) * y i by rewrite mulr_ge0 ?(ltW pos) // subr_ge0.
have t3 : 0 <= \sum_j G S i j * (y i - y j) by rewrite sumr_ge0.
have total : (1 - G S i i) * y i + (r - overlap S i) * y i + \sum_j G S i j * (y i - y j) <= 0.
  have row_sum : \sum_j G S i j = G S i i + overlap S i by rewrite (bigD1 i).
  under eq_bigr do rewrite mulrBr.
  rewrite sumrB -mulr_suml row_sum addrA -!mulrDl.
  by rewrite [1 - _ + _]addrACA -opprD subrK subr_le0.
have s12 : 0 <= (1 - G S i i) * y i + (r - overlap S i) * y i by rewrite addr_ge0.
have /andP[/eqP z12 /eqP z3] :
  ((1 - G S i i) * y i + (r - overlap S i) * y i == 0) && (\sum_j G S i j * (y i - y j) == 0).
  by rewrite -paddr_eq0 // eq_le total addr_ge0.
have := z12 => /eqP; rewrite paddr_eq0 // !mulf_eq0 (gt_eqF pos) !orbF !subr_eq0.
case/andP=> /eqP <- /eqP <-; split=> // j g.
have /(_ j isT)/eqP := psumr_eq0P (fun j _ => t j) z3.
by rewrite mulf_eq0 (gt_eqF g) /= subr_eq0 => /eqP.
Qed.

Lemma eigenvalue_le c : eigenvalue (G S) c -> c <= 1 + r.
Proof.
move/(largest_coordinate S_ge0) => [y [i [pos ymax h _]]].
rewrite -(ler_pmul2r pos) (le_trans (ler_wpmul2r (ltW pos) (ler_norm c))) //.
apply: (le_trans (h i)); apply: (@le_trans _ _ (\sum_j G S i j * y i)).
  by apply: ler_sum => j _; rewrite ler_wpmul2l ?G_ge0 //; case/andP: (ymax j).
by rewrite -mulr_suml ler_wpmul2r ?(ltW pos) // (bigD1 i) //= ler_add ?diag_le1 ?overlap_le.
Qed.

Lemma eigenvalue_ge c : eigenvalue (G S) c -> n%:R^-1 - r <= c.
Proof.
move/(largest_coordinate S_ge0) => [y [i [pos _ _]]].
rewrite -mulrBl ler_pmul2r // => h.
rewrite ler_subl_addr -ler_subl_addl (le_trans _ (overlap_le i)) // (le_trans _ h) //.
by rewrite ler_sub // diag_ge.
Qed.

Lemma eigenvalue_of_permutation (s : 'S_n) c : S = perm_mx s -> eigenvalue (G S) c -> c = 1.
Proof.
move=> e; rewrite /G e tr_perm_mx -perm_mxM mulVg perm_mx1 => /eigenvalueP[x].
rewrite mulmx1 => ex nz; apply/eqP; rewrite eq_sym -subr_eq0.
have : (1 - c) *: x = 0 by rewrite scalerBl scale1r -ex subrr.
by move/eqP; rewrite scaler_eq0 (negbTE nz) orbF.
Qed.

(* The overlap of a column e_k counts the other ones, if row k has no other nonzero entry. *)
Lemma overlap_of_copy k i : S k i = 1 -> (forall j, j \notin copies S k -> S k j = 0) ->
  overlap S i = #|copies S k|%:R - 1.
Proof.
move=> e zero; apply: (canRL (addrK _)).
have d : G S i i = 1 by rewrite (G_one_hot S_ge0 S_sum _ e).
rewrite -[X in _ + X]d addrC /overlap -(bigD1 i (P := xpredT) (F := G S i)) //=.
rewrite (bigID (mem (copies S k))) /= [X in _ + X]big1 ?addr0 => [|j jk]; last first.
  by rewrite (G_one_hot S_ge0 S_sum _ e) zero.
rewrite (eq_bigr (fun _ => 1)) ?sumr_const // => j; rewrite inE => /eqP ej.
by rewrite (G_one_hot S_ge0 S_sum _ e).
Qed.

(* The roots of a and b are two singular values. As no two differ by more, they are sigma_1 and
   sigma_n. *)
Theorem right_side :
  (exists a b, [/\ eigenvalue (G S) a, eigenvalue (G S) b &
     Num.sqrt a - Num.sqrt b = Num.sqrt (1 + r) - Num.sqrt (Num.max (n%:R^-1 - r) 0)])
  <-> exists k, [/\ (2 <= #|copies S k|)%N, forall j, j \notin copies S k -> S k j = 0 &
                    forall i, overlap S i <= #|copies S k|%:R - 1].
Proof.
split=> [[a [b [ea eb gap]]]|[k [two zero least]]].
  (* a and b attain their bounds, so a = 1 + r. *)
  have sa : Num.sqrt a <= Num.sqrt (1 + r) by rewrite ler_wsqrtr // eigenvalue_le.
  have sb : Num.sqrt (Num.max (n%:R^-1 - r) 0) <= Num.sqrt b.
    case: (leP (n%:R^-1 - r) 0) => _; first by rewrite sqrtr0 sqrtr_ge0.
    by rewrite ler_wsqrtr // eigenvalue_ge.
  have sa1 : Num.sqrt a = Num.sqrt (1 + r).
    apply/eqP; rewrite eq_le sa -(ler_add2r (- Num.sqrt b)) gap.
    by rewrite ler_add2l ler_opp2.
  have sb1 : Num.sqrt b = Num.sqrt (Num.max (n%:R^-1 - r) 0).
    by apply/oppr_inj/(addrI (Num.sqrt a)); rewrite gap sa1.
  have a1 : a = 1 + r.
    have a0 : 0 < a by rewrite -sqrtr_gt0 sa1 sqrtr_gt0 r1_gt0.
    by rewrite -(sqr_sqrtr (ltW a0)) sa1 sqr_sqrtr // ltW ?r1_gt0.
  (* Columns at the largest moduli are one-hot, and so are those that overlap with them. *)
  have [y [i [pos ymax h _]]] := largest_coordinate S_ge0 ea.
  have row l : y l = y i -> [/\ G S l l = 1, overlap S l = r & forall j, 0 < G S l j -> y j = y i].
    move=> e; rewrite -e; apply: equality_in_row.
    - by rewrite e.
    - by move=> j; rewrite e; case/andP: (ymax j).
    - by apply: le_trans (h l); rewrite a1 ger0_norm // ltW ?r1_gt0.
  have [di ri max_at] := row i erefl.
  have [k kpos] := has_positive_entry S_ge0 S_sum i.
  have ki : S k i = 1.
    by case: (zero_or_one S_ge0 S_sum k di) => // e; move: kpos; rewrite e ltxx.
  have zero j : j \notin copies S k -> S k j = 0.
    rewrite inE => not1; apply/eqP; apply: contraT => nz.
    have g : 0 < G S i j by rewrite (G_one_hot S_ge0 S_sum _ ki) lt_neqAle eq_sym nz S_ge0.
    have [dj _ _] := row j (max_at j g).
    by case: (zero_or_one S_ge0 S_sum k dj) => e; [rewrite e eqxx in nz | rewrite e eqxx in not1].
  have rE : r = #|copies S k|%:R - 1 by rewrite -ri (overlap_of_copy ki zero).
  exists k; split=> //; last by move=> j; rewrite -rE.
  (* One copy alone would give r = 0 and a permutation, whose gap is 0 < 1 - sqrt(1/n). *)
  have iJ : i \in copies S k by rewrite inE ki.
  rewrite ltn_neqAle card_gt0 andbC; apply/andP; split; first by apply/set0Pn; exists i.
  apply/negP => /eqP one.
  have r0 : r = 0 by rewrite rE -one subrr.
  have [s e] : exists s : 'S_n, S = perm_mx s.
    apply: orthogonal_columns => // l j lj.
    have z : overlap S l = 0 by apply/eqP; rewrite eq_le overlap_ge0 // -{1}r0 overlap_le.
    by apply: (psumr_eq0P (fun j _ => G_ge0 S_ge0 l j) z); rewrite eq_sym.
  have inv_ge0 : 0 <= (n%:R : R)^-1 by rewrite invr_ge0 ler0n.
  move: sb1; rewrite (eigenvalue_of_permutation e eb) r0 subr0 sqrtr1.
  rewrite max_l // => /(congr1 (fun t => t ^+ 2)); rewrite sqr_sqrtr // expr1n => /eqP.
  by rewrite eq_sym invr_eq1 pnatr_eq1 gtn_eqF.
(* Conversely r = m - 1 >= 1, a = m, b = 0. *)
have [i [j [iJ jJ ij]]] := card_gt1P two.
have ki : S k i = 1 by apply/eqP; move: iJ; rewrite inE.
have kj : S k j = 1 by apply/eqP; move: jJ; rewrite inE.
have rE : r = #|copies S k|%:R - 1.
  apply/eqP; rewrite eq_le; apply/andP; split; first by case: overlap_eq => l <-.
  by rewrite -(overlap_of_copy ki zero).
exists (1 + r), 0; split.
- (* The indicator of the copies. *)
  apply/eigenvalueP; exists (\row_l S k l); last first.
    by apply: contraTneq isT => /rowP/(_ i); rewrite !mxE ki => /eqP; rewrite oner_eq0.
  apply/rowP => l; rewrite !mxE rE addrC subrK.
  rewrite (bigID (mem (copies S k))) /= [X in _ + X]big1 ?addr0 => [|m mk]; last first.
    by rewrite mxE zero // mul0r.
  rewrite (eq_bigr (fun _ => S k l)) => [|m]; first by rewrite sumr_const mulr_natl.
  by rewrite inE => /eqP em; rewrite mxE em mul1r (G_one_hot S_ge0 S_sum _ em).
- (* The difference of two copies. *)
  apply/eigenvalueP; exists (delta_mx 0 i - delta_mx 0 j).
    have row_G u : S k u = 1 -> row u (G S) = row k S.
      by move=> e; apply/rowP => l; rewrite mxE (G_one_hot S_ge0 S_sum _ e) mxE.
    by rewrite scale0r mulmxBl -!rowE !row_G // subrr.
  apply: contraTneq isT => /rowP/(_ i)/eqP.
  by rewrite !mxE !eqxx (negbTE ij) subr0 oner_eq0.
- have r1 : 1 <= r by rewrite rE ler_subr_addr -(natrD _ 1 1) ler_nat.
  rewrite max_r ?sqrtr0 // subr_le0 (le_trans _ r1) // invf_le1 ?ler1n ?ltr0n //; exact: ltnW.
Qed.

End RightSide.

Print Assumptions left_side.
Print Assumptions right_side.
