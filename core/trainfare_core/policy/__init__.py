"""What a policy allows: its rules, the limits of each job, and the judgement."""
