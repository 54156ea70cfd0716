/** The SQL files as 00_master_setup.sql runs them; a test compares the list with that file. */
import tables from "../../../sql/01_create_tables.sql" with { type: "text" };
import capture from "../../../sql/02_create_replication_trigger.sql" with { type: "text" };
import tablePlan from "../../../sql/02a_table_plan.sql" with { type: "text" };
import captureFunctions from "../../../sql/02b_capture_functions.sql" with { type: "text" };
import captureTriggers from "../../../sql/02c_capture_triggers.sql" with { type: "text" };
import setupTable from "../../../sql/02d_setup_table.sql" with { type: "text" };
import sequences from "../../../sql/02da_sequences.sql" with { type: "text" };
import registration from "../../../sql/02e_registration.sql" with { type: "text" };
import views from "../../../sql/02f_views.sql" with { type: "text" };
import namesAndRights from "../../../sql/02g_names_and_rights.sql" with { type: "text" };
import periodic from "../../../sql/02h_periodic.sql" with { type: "text" };
import pollFunctions from "../../../sql/02ha_poll_functions.sql" with { type: "text" };
import syncRuns from "../../../sql/02hb_sync_runs.sql" with { type: "text" };
import snapshot from "../../../sql/02i_snapshot.sql" with { type: "text" };
import snapshotChunks from "../../../sql/02ia_snapshot_chunks.sql" with { type: "text" };

export const SQL_FILES: readonly { readonly name: string; readonly text: string }[] = [
  { name: "01_create_tables.sql", text: tables },
  { name: "02_create_replication_trigger.sql", text: capture },
  { name: "02a_table_plan.sql", text: tablePlan },
  { name: "02b_capture_functions.sql", text: captureFunctions },
  { name: "02c_capture_triggers.sql", text: captureTriggers },
  { name: "02d_setup_table.sql", text: setupTable },
  { name: "02da_sequences.sql", text: sequences },
  { name: "02e_registration.sql", text: registration },
  { name: "02f_views.sql", text: views },
  { name: "02h_periodic.sql", text: periodic },
  { name: "02ha_poll_functions.sql", text: pollFunctions },
  { name: "02hb_sync_runs.sql", text: syncRuns },
  { name: "02i_snapshot.sql", text: snapshot },
  { name: "02ia_snapshot_chunks.sql", text: snapshotChunks },
  { name: "02g_names_and_rights.sql", text: namesAndRights },
];
