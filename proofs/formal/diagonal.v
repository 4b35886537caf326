(* A lower bound on the diagonal of the Gram matrix of a probability matrix, sharper than in the
   paper's Proposition 3.1.

   S is n x n, its columns are probability vectors, G = S^T S, d i = G i i, R_i = overlap i the sum of
   G i j over j <> i. Then d i >= 1 - R_i - (1/2) sum_j R_j, so d i >= 1 - (1 + n/2) r where all
   R_i <= r. *)

Load "sums".

Lemma sum_but n i f : (i < n)%nat ->
  sum n (fun j => if Nat.eqb j i then 0 else f j) = sum n f - f i.
Proof.
  induction n; intros h; [lia|]. simpl. destruct (Nat.eqb_spec n i) as [->|ne].
  - rewrite (sum_ext _ _ f); [ring|]. intros k hk. destruct (Nat.eqb_spec k i); [lia|reflexivity].
  - rewrite IHn by lia. ring.
Qed.

(* Numbers in [0, 1] with sum s: s - 1 is at most the sum of the products of all pairs, by
   1 - s + e_2 >= prod (1 - x_j) >= 0 (Bonferroni). *)
Lemma excess n x : (forall j, (j < n)%nat -> 0 <= x j <= 1) ->
  2 * (sum n x - 1) <= Rsqr (sum n x) - sum n (fun j => Rsqr (x j)).
Proof.
  intros h.
  enough (exists p, 0 <= p <= 1 /\ 1 - sum n x <= p /\
    2 * p <= 2 * (1 - sum n x) + (Rsqr (sum n x) - sum n (fun j => Rsqr (x j)))) as (p & ? & ? & ?)
    by lra.
  induction n as [|n IH]; simpl.
  - exists 1. unfold Rsqr. lra.
  - destruct IH as (p & hp & h1 & h2); [intros j hj; apply h; lia|].
    pose proof (h n ltac:(lia)) as hx. exists ((1 - x n) * p). unfold Rsqr in *.
    repeat split; nra.
Qed.

Section Diagonal.
Variables (n : nat) (M : nat -> nat -> R).
Hypothesis M_ge0 : forall k j, (k < n)%nat -> (j < n)%nat -> 0 <= M k j.
Hypothesis M_sum : forall j, (j < n)%nat -> sum n (fun k => M k j) = 1.

Definition G i j : R := sum n (fun k => M k i * M k j).
Definition d i : R := G i i.
Definition overlap i : R := sum n (fun j => if Nat.eqb j i then 0 else G i j).
Definition rho k : R := sum n (fun j => M k j).

Lemma M_le1 k j : (k < n)%nat -> (j < n)%nat -> M k j <= 1.
Proof.
  intros hk hj. rewrite <- (M_sum j hj).
  assert (forall m, (k < m <= n)%nat -> M k j <= sum m (fun i => M i j)) as part.
  { induction m; intros hm; [lia|]. simpl. pose proof (M_ge0 m j ltac:(lia) hj).
    destruct (Nat.eq_dec k m) as [->|ne]; [|specialize (IHm ltac:(lia)); lra].
    assert (0 <= sum m (fun i => M i j)); [|lra].
    replace 0 with (sum m (fun _ => 0)) by (rewrite sum_const; ring).
    apply sum_le; intros i hi; apply M_ge0; lia. }
  apply part; lia.
Qed.

(* d_i + R_i = <s_i, rho> *)
Lemma row i : (i < n)%nat -> d i + overlap i = sum n (fun k => M k i * rho k).
Proof.
  intros hi. unfold overlap. rewrite sum_but by exact hi. unfold d, G.
  rewrite sum_swap. unfold Rminus. rewrite Rplus_comm, Rplus_assoc, Rplus_opp_l, Rplus_0_r.
  apply sum_ext; intros k _. rewrite sum_scal. reflexivity.
Qed.

Lemma overlaps : sum n overlap =
  sum n (fun k => Rsqr (rho k) - sum n (fun j => Rsqr (M k j))).
Proof.
  rewrite (sum_ext n overlap (fun i => sum n (fun k => M k i * rho k) - d i)).
  2:{ intros i hi. rewrite <- row by exact hi. ring. }
  rewrite sum_minus, sum_swap, sum_minus. f_equal.
  - apply sum_ext; intros k _. transitivity (rho k * sum n (fun j => M k j)); [|reflexivity].
    rewrite <- sum_scal. apply sum_ext; intros i _. ring.
  - unfold d, G. rewrite sum_swap. reflexivity.
Qed.

Definition pos (x : R) : R := Rmax x 0.

Lemma deficits : sum n (fun k => pos (1 - rho k)) = sum n (fun k => pos (rho k - 1)).
Proof.
  assert (sum n (fun k => 1 - rho k) = 0) as zero.
  { rewrite sum_minus, sum_const. unfold rho. rewrite sum_swap.
    rewrite (sum_ext _ _ (fun _ => 1)) by exact M_sum. rewrite sum_const. ring. }
  assert (sum n (fun k => pos (1 - rho k)) - sum n (fun k => pos (rho k - 1)) = 0); [|lra].
  rewrite <- sum_minus, <- zero. apply sum_ext; intros k _. unfold pos, Rmax.
  destruct (Rle_dec (1 - rho k) 0), (Rle_dec (rho k - 1) 0); lra.
Qed.

Theorem diagonal i : (i < n)%nat -> 1 - overlap i - sum n overlap / 2 <= d i.
Proof.
  intros hi. enough (1 - (d i + overlap i) <= sum n overlap / 2) by lra.
  rewrite row by exact hi. rewrite <- (M_sum i hi), <- sum_minus.
  apply Rle_trans with (sum n (fun k => pos (1 - rho k))).
  - apply sum_le; intros k hk. pose proof (M_ge0 k i hk hi) as low. pose proof (M_le1 k i hk hi) as high.
    unfold pos, Rmax. destruct (Rle_dec (1 - rho k) 0) as [neg|neg].
    + assert (0 <= M k i * (rho k - 1)) by (apply Rmult_le_pos; lra). lra.
    + assert (0 <= (1 - M k i) * (1 - rho k)) by (apply Rmult_le_pos; lra). lra.
  - rewrite deficits, overlaps. unfold Rdiv. rewrite Rmult_comm, <- sum_scal.
    apply sum_le; intros k hk.
    pose proof (excess n (M k) (fun j hj => conj (M_ge0 k j hk hj) (M_le1 k j hk hj))) as e.
    change (sum n (M k)) with (rho k) in e.
    assert (0 <= Rsqr (rho k) - sum n (fun j => Rsqr (M k j))) as nonneg.
    { enough (sum n (fun j => Rsqr (M k j)) <= Rsqr (rho k)) by lra.
      unfold Rsqr at 2. unfold rho at 1. rewrite Rmult_comm, <- sum_scal.
      apply sum_le; intros j hj. pose proof (M_ge0 k j hk hj).
      unfold Rsqr. apply Rmult_le_compat_r; [assumption|]. unfold rho.
      assert (forall m, (j < m <= n)%nat -> M k j <= sum m (fun i => M k i)) as part.
      { induction m; intros hm; [lia|]. simpl. pose proof (M_ge0 k m hk ltac:(lia)).
        destruct (Nat.eq_dec j m) as [->|ne]; [|specialize (IHm ltac:(lia)); lra].
        assert (0 <= sum m (fun i => M k i)); [|lra].
        replace 0 with (sum m (fun _ => 0)) by (rewrite sum_const; ring).
        apply sum_le; intros l hl; apply M_ge0; lia. }
      apply part; lia. }
    unfold pos, Rmax. destruct (Rle_dec (rho k - 1) 0); lra.
Qed.

Corollary diagonal_in_r r i : (i < n)%nat -> (forall j, (j < n)%nat -> overlap j <= r) ->
  1 - (1 + INR n / 2) * r <= d i.
Proof.
  intros hi h. pose proof (diagonal i hi). pose proof (h i hi).
  assert (sum n overlap <= INR n * r) by (rewrite <- sum_const; apply sum_le; exact h). lra.
Qed.

End Diagonal.

Print Assumptions diagonal_in_r.
