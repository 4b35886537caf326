(* Proposition 3.2 of "Unpacking Softmax" (arXiv 2506.01562): the circle's logits, machine-checked.

   c >= 3 classes, logits M y k = rho cos(2 pi (y - k)/c) = rho <u_y, u_k> (rank <= 2).  Every wrong class
   lies below the right one by rho Delta, Delta = 1 - cos(2 pi/c) > 0, and for every 0 < eps < ln c
   some rho makes the cross-entropy at temperature T at most eps. *)

Require Import Reals Lra Lia.
Open Scope R_scope.

Section Circle.
Variable c : nat.
Hypothesis c_ge3 : (3 <= c)%nat.

Definition angle (k : nat) : R := 2 * PI * INR k / INR c.
Definition Delta : R := 1 - cos (angle 1).
Definition M (rho : R) (y k : nat) : R := rho * cos (angle y - angle k).

Lemma c_pos : 0 < INR c.
Proof. apply lt_0_INR; lia. Qed.

Lemma rank_two rho y k :
  M rho y k = (rho * cos (angle y)) * cos (angle k) + (rho * sin (angle y)) * sin (angle k).
Proof. unfold M; rewrite cos_minus; ring. Qed.

Lemma c_ge3_R : 3 <= INR c.
Proof. replace 3 with (INR 3) by (simpl; lra). apply le_INR; exact c_ge3. Qed.

Lemma angle_pos k : (0 < k)%nat -> 0 < angle k.
Proof.
  intros h. unfold angle. pose proof PI_RGT_0. pose proof c_pos.
  apply Rdiv_lt_0_compat; [|assumption].
  apply Rmult_lt_0_compat; [lra|]. apply lt_0_INR; exact h.
Qed.

Lemma angle_le j k : (j <= k)%nat -> angle j <= angle k.
Proof.
  intros h. unfold angle, Rdiv. pose proof PI_RGT_0. pose proof c_pos.
  apply Rmult_le_compat_r; [left; apply Rinv_0_lt_compat; assumption|].
  apply Rmult_le_compat_l; [lra|]. apply le_INR; exact h.
Qed.

Lemma angle_half d : (2 * d <= c)%nat -> angle d <= PI.
Proof.
  intros h. unfold angle. pose proof PI_RGT_0. pose proof c_pos as cp.
  apply Rmult_le_reg_r with (INR c); [assumption|].
  unfold Rdiv. rewrite Rmult_assoc, Rinv_l, Rmult_1_r by lra.
  assert (2 * INR d <= INR c) by (replace 2 with (INR 2) by (simpl; lra);
    rewrite <- mult_INR; apply le_INR; exact h).
  nra.
Qed.

Lemma angle_mirror d : (d <= c)%nat -> angle (c - d) = 2 * PI - angle d.
Proof. intros h. unfold angle. rewrite minus_INR by exact h. pose proof c_pos. field. lra. Qed.

Lemma half_le d : (1 <= d)%nat -> (2 * d <= c)%nat -> cos (angle d) <= cos (angle 1).
Proof.
  intros h1 h2.
  assert (0 < angle 1) by (apply angle_pos; lia).
  assert (angle 1 <= angle d) by (apply angle_le; exact h1).
  assert (angle d <= PI) by (apply angle_half; exact h2).
  apply cos_decr_1; lra.
Qed.

Lemma neighbours_are_closest d : (1 <= d < c)%nat -> cos (angle d) <= cos (angle 1).
Proof.
  intros [h1 h2]. destruct (Nat.le_gt_cases (2 * d) c) as [h|h]; [apply half_le; assumption|].
  replace (cos (angle d)) with (cos (angle (c - d))); [apply half_le; lia|].
  rewrite angle_mirror by lia.
  replace (2 * PI - angle d) with (- angle d + 2 * INR 1 * PI) by (simpl; ring).
  rewrite cos_period, cos_neg. reflexivity.
Qed.

Lemma Delta_pos : 0 < Delta.
Proof.
  unfold Delta. assert (0 < angle 1) by (apply angle_pos; lia).
  assert (angle 1 <= PI) by (apply angle_half; lia).
  assert (cos (angle 1) < cos 0) by (apply cos_decreasing_1; lra).
  rewrite cos_0 in *. lra.
Qed.

Lemma angle_sub y k : (k <= y)%nat -> angle y - angle k = angle (y - k).
Proof. intros h. unfold angle. rewrite minus_INR by exact h. pose proof c_pos. field. lra. Qed.

Theorem margin rho y k :
  0 < rho -> (y < c)%nat -> (k < c)%nat -> k <> y -> M rho y k <= M rho y y - rho * Delta.
Proof.
  intros hr hy hk hne. unfold M, Delta.
  replace (angle y - angle y) with 0 by ring. rewrite cos_0.
  assert (cos (angle y - angle k) <= cos (angle 1)); [|nra].
  destruct (Nat.le_gt_cases k y) as [h|h].
  - rewrite angle_sub by exact h. apply neighbours_are_closest; lia.
  - replace (angle y - angle k) with (- (angle k - angle y)) by ring.
    rewrite cos_neg, angle_sub by lia. apply neighbours_are_closest; lia.
Qed.

Corollary accuracy_one rho y k :
  0 < rho -> (y < c)%nat -> (k < c)%nat -> k <> y -> M rho y k < M rho y y.
Proof.
  intros hr hy hk hne. pose proof (margin rho y k hr hy hk hne). pose proof Delta_pos. nra.
Qed.

(* Cross-entropy of class y at temperature T: ln sum_k e^{(M y k - M y y)/T}. *)
Definition loss (rho T : R) (y : nat) : R :=
  ln (sum_f_R0 (fun k => exp ((M rho y k - M rho y y) / T)) (pred c)).

Lemma sum_bound (f : nat -> R) (B : R) (y : nat) :
  0 <= B -> f y = 1 ->
  forall N, (forall k, (k <= N)%nat -> k <> y -> f k <= B) ->
  sum_f_R0 f N <= if Nat.leb y N then 1 + INR N * B else INR (S N) * B.
Proof.
  intros hB hy N. induction N as [|N IH]; intros h.
  - destruct y; [simpl; rewrite hy; lra|]. simpl. specialize (h 0%nat); simpl in h.
    assert (f 0%nat <= B) by (apply h; lia). lra.
  - rewrite tech5. assert (hN := IH (fun k hk hne => h k ltac:(lia) hne)). clear IH.
    destruct (Nat.leb_spec y (S N)) as [hle|hgt].
    + destruct (Nat.leb_spec y N) as [hle'|hgt'].
      * assert (f (S N) <= B) by (apply h; lia). rewrite S_INR in *. lra.
      * assert (y = S N) as -> by lia. rewrite hy. lra.
    + destruct (Nat.leb_spec y N) as [hle'|hgt']; [lia|].
      assert (f (S N) <= B) by (apply h; lia). rewrite (S_INR (S N)). lra.
Qed.

Lemma loss_le rho T y : 0 < rho -> 0 < T -> (y < c)%nat ->
  loss rho T y <= ln (1 + (INR c - 1) * exp (- (rho * Delta / T))).
Proof.
  intros hr hT hy. unfold loss.
  set (f := fun k => exp ((M rho y k - M rho y y) / T)).
  assert (hfy : f y = 1).
  { unfold f. replace ((M rho y y - M rho y y) / T) with 0 by (field; lra). apply exp_0. }
  assert (hf : forall k, (k <= pred c)%nat -> k <> y -> f k <= exp (- (rho * Delta / T))).
  { intros k hk hne. unfold f.
    pose proof (margin rho y k hr hy ltac:(lia) hne) as hm.
    assert ((M rho y k - M rho y y) / T <= - (rho * Delta / T)).
    { replace (- (rho * Delta / T)) with ((- (rho * Delta)) / T) by (field; lra).
      unfold Rdiv. apply Rmult_le_compat_r; [left; apply Rinv_0_lt_compat; exact hT|lra]. }
    destruct H as [H|H]; [left; apply exp_increasing; exact H|right; rewrite H; reflexivity]. }
  pose proof (sum_bound f _ y (Rlt_le _ _ (exp_pos _)) hfy (pred c) hf) as hs.
  replace (Nat.leb y (pred c)) with true in hs by (symmetry; apply Nat.leb_le; lia).
  replace (INR (pred c)) with (INR c - 1) in hs.
  2:{ replace c with (S (pred c)) at 1 by lia. rewrite S_INR. ring. }
  assert (0 < sum_f_R0 f (pred c)).
  { generalize (pred c) as N. induction N as [|N IH]; simpl; [apply exp_pos|].
    pose proof (exp_pos ((M rho y (S N) - M rho y y) / T)). unfold f at 2. lra. }
  destruct hs as [hs|hs]; [left; apply ln_increasing; assumption|right; rewrite hs; reflexivity].
Qed.

Theorem any_loss T eps : 0 < T -> 0 < eps < ln (INR c) ->
  let rho := T * ln ((INR c - 1) / (exp eps - 1)) / Delta in
  0 < rho /\ forall y, (y < c)%nat -> loss rho T y <= eps.
Proof.
  intros hT [he1 he2] rho. pose proof Delta_pos as hD. pose proof c_ge3_R as hc.
  assert (h1 : 1 < exp eps) by (rewrite <- exp_0; apply exp_increasing; exact he1).
  assert (h2 : exp eps < INR c).
  { rewrite <- (exp_ln (INR c)) by lra. apply exp_increasing; exact he2. }
  assert (hq : 1 < (INR c - 1) / (exp eps - 1)).
  { apply Rmult_lt_reg_r with (exp eps - 1); [lra|].
    unfold Rdiv. rewrite Rmult_assoc, Rinv_l by lra. lra. }
  assert (hl : 0 < ln ((INR c - 1) / (exp eps - 1))).
  { rewrite <- ln_1. apply ln_increasing; lra. }
  assert (hr : 0 < rho).
  { unfold rho. apply Rdiv_lt_0_compat; [|exact hD]. apply Rmult_lt_0_compat; assumption. }
  split; [exact hr|]. intros y hy.
  apply Rle_trans with (1 := loss_le rho T y hr hT hy). right.
  replace (- (rho * Delta / T)) with (- ln ((INR c - 1) / (exp eps - 1))).
  2:{ unfold rho. field. split; lra. }
  rewrite exp_Ropp, exp_ln by lra.
  replace (1 + (INR c - 1) * / ((INR c - 1) / (exp eps - 1))) with (exp eps) by (field; lra).
  apply ln_exp.
Qed.

(* A matrix of rank at most 1 is a y b k. With three classes or more it cannot classify: two of three
   nonzero a y have the same sign, and then the same class is the largest for both. *)
Lemma same_sign (a b : nat -> R) y z :
  a y * b z < a y * b y -> a z * b y < a z * b z -> 0 < a y * a z -> False.
Proof.
  intros hy hz s.
  assert (0 < a y * (b y - b z)) by lra. assert (0 < a z * (b z - b y)) by lra.
  destruct (Rtotal_order (a y) 0) as [neg|[zero|pos]].
  - assert (a z < 0) by nra. nra.
  - rewrite zero in *. lra.
  - assert (0 < a z) by nra. nra.
Qed.

Theorem rank_one_fails (a b : nat -> R) :
  ~ (forall y k, (y < c)%nat -> (k < c)%nat -> k <> y -> a y * b k < a y * b y).
Proof.
  intros h.
  assert (forall y z, (y < c)%nat -> (z < c)%nat -> y <> z -> a y * a z <= 0) as opposite.
  { intros y z hy hz ne. apply Rnot_lt_le. intros s.
    apply (same_sign a b y z); [apply h; auto | apply h; auto | exact s]. }
  assert (forall y, (y < c)%nat -> a y <> 0) as nonzero.
  { intros y hy e.
    assert (exists k, (k < c)%nat /\ k <> y) as (k & hk & ne).
    { destruct y; [exists 1%nat | exists 0%nat]; lia. }
    pose proof (h y k hy hk ne) as l. rewrite e in l. lra. }
  pose proof (opposite 0%nat 1%nat ltac:(lia) ltac:(lia) ltac:(lia)).
  pose proof (opposite 0%nat 2%nat ltac:(lia) ltac:(lia) ltac:(lia)).
  pose proof (opposite 1%nat 2%nat ltac:(lia) ltac:(lia) ltac:(lia)).
  pose proof (nonzero 0%nat ltac:(lia)). pose proof (nonzero 1%nat ltac:(lia)).
  pose proof (nonzero 2%nat ltac:(lia)).
  destruct (Rdichotomy (a 0%nat) 0); [assumption| |];
  destruct (Rdichotomy (a 1%nat) 0); try assumption;
  destruct (Rdichotomy (a 2%nat) 0); try assumption; nra.
Qed.

(* So the rank of the circle's logits is exactly 2: two factors give them (rank_two), one does not. *)
Corollary rank_is_two rho : 0 < rho ->
  ~ exists a b : nat -> R, forall y k, (y < c)%nat -> (k < c)%nat -> M rho y k = a y * b k.
Proof.
  intros hr (a & b & e). apply (rank_one_fails a b). intros y k hy hk ne.
  rewrite <- !e by assumption. apply accuracy_one; assumption.
Qed.

End Circle.

Print Assumptions any_loss.
Print Assumptions rank_is_two.
